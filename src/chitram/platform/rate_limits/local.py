"""Limits of one process by itself."""

from __future__ import annotations

import time
from collections.abc import Callable

from chitram.platform.rate_limits.policy import MICROSECONDS, Decision, Policy

_MOST_CLIENTS = 20_000


class LocalLimiter:
    """The generic cell rate algorithm in memory: the stand-in for Valkey, with the same answers.

    Args:
        clock: microseconds that never go back.
    """

    def __init__(self, clock: Callable[[], int] = lambda: time.monotonic_ns() // 1000) -> None:
        self._clock = clock
        # Theoretical arrival time of the next unit, by policy and client.
        self._arrivals: dict[tuple[str, str], int] = {}

    async def take(self, policy: Policy, client: str, cost: int = 1) -> Decision | None:
        policy.check_cost(cost)
        now = self._clock()
        key = (policy.name, client)
        full = now + policy.interval * policy.limit
        arrival = max(now, min(self._arrivals.get(key, now), full))
        wanted = arrival + policy.interval * cost
        allowed = wanted <= full
        if allowed:
            arrival = wanted
            self._make_room(now)
            self._arrivals[key] = arrival
        remaining = (full - arrival) // policy.interval
        until_next = (remaining + 1) * policy.interval - (full - arrival) if remaining < policy.limit else 0
        retry_after = 0 if allowed else wanted - full
        return Decision(allowed, remaining, retry_after / MICROSECONDS, until_next / MICROSECONDS)

    def _make_room(self, now: int) -> None:
        """Forget clients whose units are all back; when there are too many others, the first ones."""
        if len(self._arrivals) < _MOST_CLIENTS:
            return
        self._arrivals = {key: at for key, at in self._arrivals.items() if at > now}
        while len(self._arrivals) >= _MOST_CLIENTS:
            del self._arrivals[next(iter(self._arrivals))]

"""The limits in force: which policy, where counted, and what holds without Valkey."""

from __future__ import annotations

from collections.abc import Mapping

from chitram.platform.rate_limits.policy import Decision, Limiter, Policy


class RateLimits:
    """All policies over one limiter.

    Args:
        policies: by name; None for one that is off.
        shared: counts for all processes.
        local: counts for this one, for the policies that hold always.
    """

    def __init__(self, policies: Mapping[str, Policy | None], shared: Limiter, local: Limiter) -> None:
        self._policies = policies
        self._shared = shared
        self._local = local

    def policy(self, name: str) -> Policy | None:
        """The policy of this name, or None when it is off."""
        return self._policies[name]

    async def take(self, policy: Policy, client: str, cost: int = 1) -> Decision | None:
        """Take units for a client. None when nothing can be said, which allows them."""
        decision = await self._shared.take(policy, client, cost)
        if decision is None and policy.always:
            return await self._local.take(policy, client, cost)
        return decision

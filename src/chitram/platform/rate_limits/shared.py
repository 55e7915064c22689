"""Limits shared by all processes, in Valkey."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from hashlib import sha1

import msgspec
import structlog
from valkey.asyncio import Valkey
from valkey.exceptions import NoScriptError

from chitram.platform.looks import finishes
from chitram.platform.rate_limits.policy import MICROSECONDS, Decision, Policy

# The generic cell rate algorithm (ITU-T I.371, annex A, "virtual scheduling"): the value is the
# theoretical arrival time of the next unit in microseconds of the server's clock. A value further
# ahead than any request could have put it, as after a jump of that clock, counts as just so far.
_SCRIPT = """
local interval, limit, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local full = now + interval * limit
local stored = tonumber(redis.call('GET', KEYS[1]) or '') or now
local arrival = math.max(now, math.min(stored, full))
local wanted = arrival + interval * cost
local allowed = wanted <= full
if allowed then
  arrival = wanted
  redis.call('SET', KEYS[1], string.format('%.0f', arrival), 'PX', math.ceil((arrival - now) / 1000))
end
local left = full - arrival
local remaining = math.floor(left / interval)
local window = 0
if remaining < limit then window = (remaining + 1) * interval - left end
return {allowed and 1 or 0, remaining, allowed and 0 or wanted - full, window}
"""
_SCRIPT_SHA = sha1(_SCRIPT.encode(), usedforsecurity=False).hexdigest()
# The number is that of the value's meaning.
_KEY_PREFIX = "chitram:rate:1:"

# What is asked to see whether Valkey can do what a request needs.
_TRIAL = (f"{_KEY_PREFIX}trial", 1, 1, 1)

_ANSWER_SECONDS = 0.04
_RECOVERY_SECONDS = 1.0
_MOST_TOGETHER = 512

_log = structlog.get_logger("chitram.rate_limits")


class _Check(msgspec.Struct, eq=False):
    """One request for units, and where its answer goes."""

    arguments: tuple[str, int, int, int]
    answer: asyncio.Future[Decision | None]


class SharedLimiter:
    """Takes units in one atomic call to Valkey; says None within 50 ms when Valkey does not answer.

    Whatever asks while a round trip is under way goes with the next, in one pipeline: any number
    of simultaneous requests need one connection. After a failure nothing is asked until Valkey
    has answered a trial, made at once after a first failure and every second after others.
    """

    def __init__(self, client: Valkey) -> None:
        self._client = client
        self._waiting: list[_Check] = []
        self._pump: asyncio.Task[None] | None = None
        self._recovery: asyncio.Task[None] | None = None
        self._recovered_at = float("-inf")

    async def take(self, policy: Policy, client: str, cost: int = 1) -> Decision | None:
        policy.check_cost(cost)
        if self._recovery:
            return None
        loop = asyncio.get_running_loop()
        key = f"{_KEY_PREFIX}{policy.name}:{client}"
        check = _Check((key, policy.interval, policy.limit, cost), loop.create_future())
        self._waiting.append(check)
        if self._pump is None:
            self._pump = loop.create_task(self._ask())
        return await check.answer

    async def connect(self) -> None:
        """Connect now, with more patience than a request has. A server that is away is left for later."""
        try:
            await self._round_trip([_TRIAL])
        except Exception as error:  # noqa: BLE001 - whatever it is, the service starts
            self._fail(error)

    async def aclose(self) -> None:
        """Stop; whoever still waits is told that nothing can be said."""
        tasks = [task for task in (self._pump, self._recovery) if task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        _settle(self._waiting)

    async def _ask(self) -> None:
        """Ask for all that wait, and for those that come meanwhile, until none do."""
        try:
            while self._waiting and not self._recovery:
                checks = self._waiting[:_MOST_TOGETHER]
                del self._waiting[:_MOST_TOGETHER]
                await self._ask_together(checks)
        finally:
            self._pump = None

    async def _ask_together(self, checks: list[_Check]) -> None:
        trip = asyncio.create_task(self._round_trip([check.arguments for check in checks]))
        # One that is given up may still fail, which nobody waits to hear.
        trip.add_done_callback(lambda given_up: given_up.cancelled() or given_up.exception())
        try:
            if not await finishes(trip, _ANSWER_SECONDS):
                raise TimeoutError
            for check, decision in zip(checks, trip.result(), strict=True):
                if not check.answer.done():
                    check.answer.set_result(decision)
        except Exception as error:  # noqa: BLE001 - whatever it is, requests go on
            self._fail(error)
        finally:
            trip.cancel()
            _settle(checks)

    async def _round_trip(self, calls: Sequence[tuple[str, int, int, int]]) -> list[Decision]:
        """Raises whatever Valkey answers to any of them."""
        replies = await self._pipeline("EVALSHA", _SCRIPT_SHA, calls)
        # A server that has just started, or was flushed, does not know the script.
        unknown = [place for place, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if unknown:
            again = await self._pipeline("EVAL", _SCRIPT, [calls[place] for place in unknown])
            for place, reply in zip(unknown, again, strict=True):
                replies[place] = reply
        return [_decision(reply) for reply in replies]

    async def _pipeline(
        self, command: str, script: str, calls: Sequence[tuple[str, int, int, int]]
    ) -> list[object]:
        pipeline = self._client.pipeline(transaction=False)
        for call in calls:
            pipeline.execute_command(command, script, 1, *call)
        replies: list[object] = await pipeline.execute(raise_on_error=False)
        return replies

    def _fail(self, error: Exception) -> None:
        _log.warning("rate limits off", cause=type(error).__name__)
        _settle(self._waiting)
        self._waiting.clear()
        if self._recovery is None:
            is_first = time.monotonic() - self._recovered_at > _RECOVERY_SECONDS
            self._recovery = asyncio.get_running_loop().create_task(self._recover(at_once=is_first))

    async def _recover(self, *, at_once: bool) -> None:
        """Try until it works, with the patience of the client; a server may be slow just once."""
        while True:
            if not at_once:
                await asyncio.sleep(_RECOVERY_SECONDS)
            at_once = False
            try:
                await self._round_trip([_TRIAL])
            except Exception as error:  # noqa: BLE001 - whatever it is, it is tried again
                _log.debug("rate limits still off", cause=type(error).__name__)
                continue
            _log.info("rate limits on again")
            self._recovered_at = time.monotonic()
            self._recovery = None
            return


def _settle(checks: Sequence[_Check]) -> None:
    """Say None to whoever has no answer."""
    for check in checks:
        if not check.answer.done():
            check.answer.set_result(None)


def _decision(reply: object) -> Decision:
    if isinstance(reply, Exception):
        raise reply
    allowed, remaining, retry_after, window = msgspec.convert(reply, tuple[int, int, int, int])
    return Decision(allowed == 1, remaining, retry_after / MICROSECONDS, window / MICROSECONDS)

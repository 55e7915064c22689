"""Measuring lines one after the other: both sides in turn, bounded in time, everything stopped."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack

import msgspec

from benchmarks.model import Limit, Line, Ratio, Run, Sample
from benchmarks.outcome import Outcome, Unmeasured, compared, limited

_LINE_SECONDS = 240.0


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How thoroughly to measure.

    Attributes:
        rounds: of both sides.
        shorten: what the times of lines are divided by.
        seconds: for all lines together; what was not begun by then falls short.
    """

    rounds: int
    shorten: float
    seconds: float


FULL = Plan(rounds=3, shorten=1, seconds=14.5 * 60)
QUICK = Plan(rounds=2, shorten=4, seconds=105)


async def measure(lines: Sequence[Line], plan: Plan, tell: Callable[[Outcome], None]) -> list[Outcome]:
    """Measure each line. One that fails is an outcome too, and the others go on.

    Args:
        tell: told of each outcome as it comes.
    """
    deadline = time.monotonic() + plan.seconds
    outcomes: list[Outcome] = []
    shared = _Shared()
    try:
        for line in lines:
            outcomes.append(await _measured(line, plan, shared, deadline - time.monotonic()))
            tell(outcomes[-1])
    finally:
        await shared.close()
    return outcomes


async def _measured(line: Line, plan: Plan, shared: _Shared, seconds_left: float) -> Outcome:
    bound = asyncio.timeout(min(_LINE_SECONDS, seconds_left))
    try:
        async with bound:
            # Where there is no time left, nothing is started.
            await asyncio.sleep(0)
            if isinstance(line, Limit):
                await shared.close()
                return limited(line, await line.measure())
            return await _compare(line, plan, await shared.sides(line))
    except Exception as error:
        with contextlib.suppress(Exception):
            await shared.close()
        if (task := asyncio.current_task()) and task.cancelling():
            # What was stopped half-way has complained of it.
            raise asyncio.CancelledError from error
        reason = "there was no time for it" if bound.expired() else _said(error)
        return Unmeasured(key=line.key, title=line.title, reason=reason)


def _said(error: Exception) -> str:
    first = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


async def _compare(line: Ratio, plan: Plan, sides: Mapping[str, Run]) -> Outcome:
    """Run both sides in turn, each round beginning with the other."""
    names = (line.ours, line.peer)
    if line.warm_up:
        for name in names:
            await sides[name](line.warm_up / plan.shorten)
    samples: dict[str, list[Sample]] = {name: [] for name in names}
    for number in range(plan.rounds):
        for name in names if number % 2 == 0 else names[::-1]:
            samples[name].append(await sides[name](line.seconds / plan.shorten))
    return compared(line, samples[line.ours], samples[line.peer])


class _Shared:
    """What the present line needs, kept for the next one if that needs the same."""

    def __init__(self) -> None:
        self._made_by: object = None
        self._sides: Mapping[str, Run] = {}
        self._exits = AsyncExitStack()

    async def sides(self, line: Ratio) -> Mapping[str, Run]:
        if self._made_by is not line.sides:
            await self.close()
            self._sides = await self._exits.enter_async_context(line.sides())
            self._made_by = line.sides
        return self._sides

    async def close(self) -> None:
        exits, self._exits = self._exits, AsyncExitStack()
        self._made_by = None
        await exits.aclose()

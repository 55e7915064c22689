from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager

import pytest

from benchmarks.measuring import Plan, measure
from benchmarks.model import Limit, Line, Measured, Ratio, Run, Sample
from benchmarks.outcome import LimitOutcome, RatioOutcome, Unmeasured

PLAN = Plan(rounds=3, shorten=2, seconds=60)
Sides = Callable[[], AbstractAsyncContextManager[Mapping[str, Run]]]


class Site:
    """Sides that write down what happens."""

    def __init__(self, **broken: Exception) -> None:
        self.broken = broken
        self.seen: list[str] = []

    @contextlib.asynccontextmanager
    async def sides(self) -> AsyncIterator[Mapping[str, Run]]:
        self.seen.append("start")
        try:
            yield {name: self._side(name) for name in ("ours", "peer")}
        finally:
            self.seen.append("stop")

    def _side(self, name: str) -> Run:
        async def run(seconds: float) -> Sample:
            self.seen.append(f"{name} {seconds:g}")
            if error := self.broken.get(name):
                raise error
            return Sample(rate=10)

        return run


def line(sides: Sides, key: str = "a", warm_up: float = 0) -> Ratio:
    return Ratio(key=key, title=key, against="b", least=0.5, sides=sides, seconds=4, warm_up=warm_up)


def ignore(_: object) -> None: ...


async def test_sides_run_in_turn_and_each_round_begins_with_the_other() -> None:
    site = Site()
    (outcome,) = await measure([line(site.sides, warm_up=1)], PLAN, ignore)
    ours, peer = "ours 2", "peer 2"
    warm = ["ours 0.5", "peer 0.5"]
    assert site.seen == ["start", *warm, ours, peer, peer, ours, ours, peer, "stop"]
    assert isinstance(outcome, RatioOutcome)
    assert outcome.ratio.median == 1


async def test_lines_of_the_same_sides_share_what_they_started() -> None:
    one, other = Site(), Site()
    same = one.sides
    lines: list[Line] = [line(same), line(same, "b"), line(other.sides, "c")]
    plan = Plan(rounds=1, shorten=2, seconds=60)
    await measure(lines, plan, ignore)
    assert one.seen == ["start", *["ours 2", "peer 2"] * 2, "stop"]
    assert other.seen == ["start", "ours 2", "peer 2", "stop"]


async def test_a_side_that_fails_is_stopped_and_the_other_lines_go_on() -> None:
    failing, working = Site(peer=RuntimeError("it broke")), Site()
    told: list[object] = []
    lines: list[Line] = [line(failing.sides), line(working.sides, "b")]
    outcomes = await measure(lines, PLAN, told.append)
    assert failing.seen == ["start", "ours 2", "peer 2", "stop"]
    assert isinstance(outcomes[0], Unmeasured)
    assert outcomes[0].shortfall == "RuntimeError: it broke"
    assert outcomes[1].shortfall is None
    assert told == outcomes


async def test_what_is_shared_is_stopped_before_a_limit_is_measured() -> None:
    site = Site()

    async def look() -> Measured:
        site.seen.append("limit")
        return Measured(value=1)

    limit = Limit(key="l", title="l", unit="s", most=2, measure=look)
    outcomes = await measure([line(site.sides), limit], PLAN, ignore)
    assert site.seen[-2:] == ["stop", "limit"]
    assert isinstance(outcomes[1], LimitOutcome)


async def test_a_line_for_which_there_is_no_time_falls_short() -> None:
    site = Site()

    async def never() -> Measured:
        site.seen.append("begun")
        await asyncio.Event().wait()
        raise AssertionError

    limit = Limit(key="l", title="l", unit="s", most=2, measure=never)
    plan = Plan(rounds=1, shorten=1, seconds=0.05)
    outcomes = await measure([limit, line(site.sides)], plan, ignore)
    assert [outcome.shortfall for outcome in outcomes] == ["there was no time for it"] * 2
    assert site.seen == ["begun"]


async def test_sides_are_stopped_when_the_run_is_cancelled() -> None:
    site = Site()
    begun = asyncio.Event()

    @contextlib.asynccontextmanager
    async def waiting() -> AsyncIterator[Mapping[str, Run]]:
        async def run(_: float) -> Sample:
            begun.set()
            await asyncio.Event().wait()
            raise AssertionError

        async with site.sides():
            yield {"ours": run, "peer": run}

    task = asyncio.create_task(measure([line(waiting)], PLAN, ignore))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert site.seen == ["start", "stop"]

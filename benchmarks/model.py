"""What a benchmark is made of: lines of a table, two sides to each, samples of these."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager

import msgspec


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One run of one side.

    Attributes:
        rate: requests or images per second that ended well.
        p50_ms: median time of an answer in milliseconds; None where single answers are not timed.
        p95_ms: the time within which 95 % of the answers came.
        p99_ms: the time within which 99 % of the answers came.
        errors: answers that were wrong: connections that broke, statuses nobody expected.
        refusals: answers that there is no capacity now: 429 and 503 by code.
        cpu_ms: processor time in milliseconds of the servers measured, without the load, for each request.
        peak_mib: greatest PSS in MiB of the processes of the servers measured.
        load_cores: processor time of the load itself for each second: how many cores it took.
    """

    rate: float
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    errors: int = 0
    refusals: int = 0
    cpu_ms: float | None = None
    peak_mib: float | None = None
    load_cores: float | None = None


# Runs one side for so many seconds.
Run = Callable[[float], Awaitable[Sample]]


class Ratio(msgspec.Struct, frozen=True, kw_only=True):
    """A line that compares rates: ours must be at least `least` times the peer's.

    Attributes:
        key: short name, for `--only`, JSON and the chart.
        title: what is measured.
        against: the peer.
        least: smallest ratio of the medians that is good enough.
        sides: starts all that both sides need, gives them by name, and stops it again. Lines that
            follow one another and have the same function here share what it started.
        ours: name of our side.
        peer: name of the other.
        seconds: of one run of one side.
        warm_up: seconds that each side runs before, unmeasured; 0 for none.
        quick: whether `just bench quick` measures it too.
    """

    key: str
    title: str
    against: str
    least: float
    sides: Callable[[], AbstractAsyncContextManager[Mapping[str, Run]]]
    ours: str = "ours"
    peer: str = "peer"
    seconds: float = 4.0
    warm_up: float = 1.0
    quick: bool = True


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """One value of a line that has a limit instead of a peer; more may stand beside it.

    Attributes:
        value: what is held against the limit.
        others: what else was seen, by name with its unit.
    """

    value: float
    others: dict[str, float] = {}


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """A line that is held against a number: `most`, or `least` where more is better.

    Attributes:
        measure: does it once, with everything started and stopped.
        unit: of the value.
        quick: whether `just bench quick` measures it too.
    """

    key: str
    title: str
    unit: str
    measure: Callable[[], Awaitable[Measured]]
    most: float | None = None
    least: float | None = None
    quick: bool = True


Line = Ratio | Limit

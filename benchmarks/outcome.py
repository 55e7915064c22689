"""What came of a line: the figures of both sides, and whether it falls short."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import ClassVar

import msgspec

from benchmarks.model import Limit, Measured, Ratio, Sample


class Spread(msgspec.Struct, frozen=True):
    """The median of some values, with the smallest and the greatest."""

    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(median(values), min(values), max(values))


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """All rounds of one side: medians, the peak memory of all, the sums of errors and refusals."""

    rate: Spread
    p95_ms: float | None
    cpu_ms: float | None
    peak_mib: float | None
    load_cores: float | None
    errors: int
    refusals: int
    rounds: tuple[Sample, ...]

    @classmethod
    def of(cls, rounds: Sequence[Sample]) -> Side:
        peaks = [each.peak_mib for each in rounds if each.peak_mib is not None]
        return cls(
            rate=Spread.of([each.rate for each in rounds]),
            p95_ms=_median([each.p95_ms for each in rounds]),
            cpu_ms=_median([each.cpu_ms for each in rounds]),
            peak_mib=max(peaks, default=None),
            load_cores=_median([each.load_cores for each in rounds]),
            errors=sum(each.errors for each in rounds),
            refusals=sum(each.refusals for each in rounds),
            rounds=tuple(rounds),
        )


class RatioOutcome(msgspec.Struct, frozen=True, kw_only=True, tag="ratio", tag_field="kind"):
    """What came of comparing rates.

    Attributes:
        ratio: of ours to the peer's, round by round.
    """

    key: str
    title: str
    against: str
    least: float
    ratio: Spread
    ours: Side
    peer: Side

    @property
    def reached(self) -> float:
        """How much of what was asked for there is; 1 is just enough."""
        return self.ratio.median / self.least

    @property
    def shortfall(self) -> str | None:
        """Why it falls short; None when it does not."""
        wrong = self.ours.errors + self.peer.errors
        if wrong:
            return f"{wrong} answers were wrong"
        return None if self.reached >= 1 else "too slow"


class LimitOutcome(msgspec.Struct, frozen=True, kw_only=True, tag="limit", tag_field="kind"):
    """What came of holding a value against a number."""

    key: str
    title: str
    unit: str
    most: float | None
    least: float | None
    measured: Measured

    @property
    def reached(self) -> float:
        """How much of what was asked for there is; 1 is just enough, 10 the most that is told."""
        value = self.measured.value
        shares = [] if self.least is None else [value / self.least]
        if self.most is not None:
            shares.append(self.most / value if value > 0 else _MOST_TOLD)
        return min(_MOST_TOLD, *shares)

    @property
    def shortfall(self) -> str | None:
        """Why it falls short; None when it does not."""
        value = self.measured.value
        if self.most is not None and value > self.most:
            return "too much"
        return "too little" if self.least is not None and value < self.least else None


class Unmeasured(msgspec.Struct, frozen=True, kw_only=True, tag="unmeasured", tag_field="kind"):
    """A line that could not be measured, which falls short."""

    key: str
    title: str
    reason: str
    reached: ClassVar[float] = 0.0

    @property
    def shortfall(self) -> str:
        return self.reason


_MOST_TOLD = 10.0
Outcome = RatioOutcome | LimitOutcome | Unmeasured


def compared(line: Ratio, ours: Sequence[Sample], peer: Sequence[Sample]) -> RatioOutcome:
    """Put the rounds of both sides together, those of one number beside each other."""
    ratios = [mine.rate / other.rate if other.rate else 0.0 for mine, other in zip(ours, peer, strict=True)]
    return RatioOutcome(
        key=line.key,
        title=line.title,
        against=line.against,
        least=line.least,
        ratio=Spread.of(ratios),
        ours=Side.of(ours),
        peer=Side.of(peer),
    )


def limited(line: Limit, measured: Measured) -> LimitOutcome:
    """Put a value beside its limit."""
    return LimitOutcome(
        key=line.key,
        title=line.title,
        unit=line.unit,
        most=line.most,
        least=line.least,
        measured=measured,
    )


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None

"""What an outage does to a steady load, as a table."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from tests.support.steady_load import Sample, SteadyLoad, quantile

Act = Callable[[], Awaitable[None]]
# Beyond every request that began in a phase.
SETTLE_SECONDS = 2.0


@dataclass(frozen=True)
class Outage:
    """Something that breaks, and how it comes back."""

    name: str
    begin: Act
    end: Act


@dataclass(frozen=True)
class Measured:
    """What came of one phase; times are seconds.

    Attributes:
        errors: answers of 500 and more, and requests without an answer, by kind and code.
        recovery: from the end of the outage to the first sign that all is as before.
    """

    name: str
    samples: Sequence[Sample]
    errors: Counter[str]
    recovery: float | None = None

    @property
    def worst(self) -> float:
        return max((sample.seconds for sample in self.samples), default=0.0)


async def measure(
    load: SteadyLoad, outages: Sequence[Outage], seconds: float, recovered: Callable[[Sample], bool]
) -> list[Measured]:
    """Load, break, mend, and so on; the first row is a time without an outage.

    Args:
        load: its samples are kept.
        outages: one after the other, with a time without any between them.
        seconds: length of each phase.
        recovered: whether a sample shows that what was broken is in use again.
    """
    rows = []
    async with load.running():
        begin = time.monotonic()
        await asyncio.sleep(seconds)
        rows.append(_measured("normal", load.between(begin, time.monotonic())))
        for outage in outages:
            begin = time.monotonic()
            await outage.begin()
            await asyncio.sleep(seconds)
            await outage.end()
            end = time.monotonic()
            await asyncio.sleep(seconds)
            back = [sample for sample in load.between(end, time.monotonic()) if recovered(sample)]
            recovery = min((sample.began + sample.seconds for sample in back), default=None)
            rows.append(
                _measured(
                    outage.name,
                    load.between(begin, time.monotonic() - SETTLE_SECONDS),
                    None if recovery is None else recovery - end,
                )
            )
    return rows


def _measured(name: str, samples: Sequence[Sample], recovery: float | None = None) -> Measured:
    errors = Counter(
        f"{sample.kind} {sample.status} {sample.code}"
        for sample in samples
        if sample.status >= 500 or not sample.status
    )
    return Measured(name, samples, errors, recovery)


def table(rows: Sequence[Measured], kinds: Sequence[str]) -> str:
    """The rows as text: for each kind of request its median and its worst time in milliseconds."""
    head = f"{'outage':<24}{'requests':>9}{'errors':>8}" + "".join(
        f"{kind + ' p50':>14}{'p99':>7}{'worst':>8}" for kind in kinds
    )
    lines = [f"{head}{'recovery':>10}"]
    for row in rows:
        line = f"{row.name:<24}{len(row.samples):>9}{row.errors.total():>8}"
        for kind in kinds:
            some = [sample for sample in row.samples if sample.kind == kind]
            line += f"{quantile(some, 0.5) * 1e3:>14.1f}{quantile(some, 0.99) * 1e3:>7.0f}"
            line += f"{quantile(some, 1) * 1e3:>8.0f}"
        recovery = "" if row.recovery is None else f"{row.recovery:.2f} s"
        lines.append(f"{line}{recovery:>10}")
        lines += [f"    {count} x {error}" for error, count in row.errors.items()]
    return "\n".join(lines) + "\n"

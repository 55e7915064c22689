"""What a run has measured, as text, JSON and pictures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from benchmarks.growth.chart import draw
from benchmarks.growth.curves import Figure, Growth


def write(growth: Growth, out: Path) -> None:
    """Write `growth.json` and a picture of each figure into a folder."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "growth.json").write_bytes(msgspec.json.format(msgspec.json.encode(growth), indent=1) + b"\n")
    for figure in growth.figures:
        (out / f"growth-{figure.key}.svg").write_text(draw(figure))


def tell(figure: Figure) -> Iterator[str]:
    """Lines of a table."""
    yield f"\n{figure.title}"
    yield f"{figure.over:>20}  {'rate/s':>9}  {'p50 ms':>8}  {'p95 ms':>8}  {'CPU ms':>7}  {'errors':>6}"
    for curve in figure.curves:
        yield f"  {curve.name}"
        for point in curve.points:
            seen = point.sample
            yield (
                f"{point.at:>20,}  {seen.rate:>9,.0f}  {seen.p50_ms or 0:>8,.1f}  {seen.p95_ms or 0:>8,.1f}"
                f"  {seen.cpu_ms or 0:>7.2f}  {seen.errors + seen.refusals:>6}"
            )

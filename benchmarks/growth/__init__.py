"""What becomes of the rates as connections, images and pages grow: `just bench growth`.

At full size it makes 5 million images, which takes about 10 GB of disk, and ends within 20 minutes.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.growth.connections import measure_connections
from benchmarks.growth.curves import Curve, Figure, Filling, Growth, Point
from benchmarks.growth.pages import measure_pages
from benchmarks.growth.report import tell, write
from benchmarks.growth.site import NoRoom, Site
from benchmarks.growth.sizes import measure_size
from benchmarks.machine import this_machine

ROWS = (1_000, 100_000, 5_000_000)


async def run(out: Path, rows: int = ROWS[-1]) -> int:
    """Measure, print and write to a folder; returns the exit status, 1 when answers were wrong.

    Args:
        out: folder for `growth.json` and the pictures.
        rows: most images; smaller sizes are measured on the way there.
    """
    try:
        growth = await _measure([size for size in ROWS if size < rows] + [rows])
    except NoRoom as error:
        print(error, file=sys.stderr)
        return 2
    write(growth, out)
    wrong = sum(
        point.sample.errors for figure in growth.figures for curve in figure.curves for point in curve.points
    )
    print(f"\n{growth.seconds:.0f} s in all, wrong answers: {wrong}; written to {out}")
    return 1 if wrong else 0


async def _measure(sizes: Sequence[int]) -> Growth:
    machine, began, clock = this_machine(), datetime.now(UTC), time.monotonic()
    fillings, at_sizes, figures = list[Filling](), list[dict[str, Point]](), list[Figure]()
    async with Site.with_room_for(sizes[-1]) as site:
        for size in sizes:
            fillings.append(await site.fill(size))
            print(
                "{0.images:,} images: {0.seconds} s, {0.database_mib:,} MiB".format(fillings[-1]), flush=True
            )
            if size == sizes[0]:
                figures.append(_told(await measure_connections(site)))
            at_sizes.append(await measure_size(site, size))
        figures.append(_told(_over_sizes(at_sizes)))
        figures.append(_told(await measure_pages(site)))
    seconds = round(time.monotonic() - clock, 1)
    return Growth(machine=machine, began=began, seconds=seconds, fillings=fillings, figures=figures)


def _over_sizes(measured: Sequence[dict[str, Point]]) -> Figure:
    curves = [Curve(name=name, points=[each[name] for each in measured]) for name in measured[0]]
    return Figure(key="images", title="Rates as images grow", over="images", curves=curves)


def _told(figure: Figure) -> Figure:
    print("\n".join(tell(figure)), flush=True)
    return figure

# ruff: noqa: T201 - printing what was measured is what these are for
"""How far thumbnails are from a reference in floating point, case by case."""

from __future__ import annotations

import pytest

from chitram.images.adapters.renderer.renderer import ChildRenderer
from tests.support.likeness import likeness
from tests.support.originals import ORIGINALS
from tests.support.received import Stored

pytestmark = pytest.mark.long


async def test_measure_every_thumbnail() -> None:
    renderer = ChildRenderer(size=2, seconds=60.0, memory_bytes=1 << 30)
    print(f"\n{'original':34}{'format':7}{'size':>9}{'bytes':>8}{'SSIM':>8}{'mean dE':>9}{'99 % dE':>9}")
    for name, build in ORIGINALS.items():
        original = build()
        stored = Stored(original.data)
        for each in await renderer.thumbnails(stored):
            found = likeness(each.content, original.colours, original.alpha)
            size = f"{each.width}x{each.height}"
            print(
                f"{name:34}{each.format:7}{size:>9}{len(each.content):8}"
                f"{found.ssim:8.4f}{found.mean_difference:9.2f}{found.worst_difference:9.1f}"
            )
            found.check(each.format)
        stored.file.close()
    await renderer.aclose()

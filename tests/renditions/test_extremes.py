"""PNG of extreme shape are decoded as all others, in less memory."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from PIL import Image

from chitram.images.adapters.renderer import original as module
from chitram.images.adapters.renderer import raster
from chitram.images.adapters.renderer.original import Original
from chitram.images.adapters.renderer.renderer import ChildRenderer
from chitram.images.domain.image import ImageFormat
from tests.renditions.conftest import New
from tests.support import photos

LONG = 4_500_000
_END = photos.chunk(b"IEND")
_DEPTHS = {
    "grey": (0, (1, 2, 4, 8, 16)),
    "colours": (2, (8, 16)),
    "palette": (3, (1, 2, 4, 8)),
    "grey and alpha": (4, (8, 16)),
    "colours and alpha": (6, (8, 16)),
}
_PNGS: dict[str, Callable[..., bytes]] = {
    f"{name} of {depth} bits": partial(photos.png, depth, colour)
    for name, (colour, depths) in _DEPTHS.items()
    for depth in depths
}
_PNGS |= {f"{name}, interlaced": partial(build, interlace=True) for name, build in _PNGS.items()} | {
    f"{name}, of every filter": lambda build=build: _every_filter(build()) for name, build in _PNGS.items()
}
_OTHERS = {name: build for name, build in photos.PNGS.items() if "animated" not in name}


def _decoded(data: bytes) -> Image.Image:
    with Original(data, ImageFormat.PNG) as opened:
        return opened.whole()


def _every_filter(data: bytes) -> bytes:
    """Filter every row of a PNG by another number, whatever comes out of it."""
    length = int.from_bytes(data[8:12], "big")
    head = data[: 8 + 12 + length]
    parts, offset, others = b"", len(head), b""
    while offset < len(data):
        length, kind = int.from_bytes(data[offset : offset + 4], "big"), data[offset + 4 : offset + 8]
        body = data[offset + 8 : offset + 8 + length]
        if kind == b"IDAT":
            parts += body
        elif kind != b"IEND":
            others += photos.chunk(kind, body)
        offset += 12 + length
    rows = bytearray(zlib.decompress(parts))
    stride = len(rows) // int.from_bytes(data[20:24], "big")
    for number, start in enumerate(range(0, len(rows), stride)):
        rows[start] = number % 5
    return head + others + photos.chunk(b"IDAT", zlib.compress(rows)) + photos.chunk(b"IEND")


@pytest.mark.parametrize("block", [8, 4096], ids=["parts of rows", "some rows"])
@pytest.mark.parametrize("build", _PNGS.values(), ids=_PNGS.keys())
def test_parts_are_decoded_as_the_whole(
    monkeypatch: pytest.MonkeyPatch, build: Callable[[], bytes], block: int
) -> None:
    data = build()
    expected = _decoded(data)
    monkeypatch.setattr(module, "is_extreme", lambda _: True)
    monkeypatch.setattr(raster, "_BLOCK", block)
    found = _decoded(data)
    assert found.mode == expected.mode
    assert np.array_equal(np.asarray(found), np.asarray(expected))


@pytest.mark.parametrize("build", _OTHERS.values(), ids=_OTHERS.keys())
def test_whatever_else_a_png_may_have_is_there_in_parts_too(
    monkeypatch: pytest.MonkeyPatch, build: Callable[[], bytes]
) -> None:
    data = build()
    expected = _decoded(data)
    monkeypatch.setattr(module, "is_extreme", lambda _: True)
    found = _decoded(data)
    assert (found.mode, found.size) == (expected.mode, expected.size)
    assert np.array_equal(np.asarray(found), np.asarray(expected))


@pytest.mark.parametrize("size", [(1, LONG), (LONG, 1)], ids=["column", "row"])
async def test_a_column_or_a_row_takes_no_more_memory_than_its_pixels(
    renderer: ChildRenderer, stored: New, size: tuple[int, int]
) -> None:
    width, height = size
    rows = zlib.compress(bytes((1 + 8 * width) * height), 1)
    data = photos.png_file(photos.header(width, height, 16, 6), photos.chunk(b"IDAT", rows), _END)
    made = await renderer.thumbnails(stored(data))
    assert [each.height * each.width for each in made] == [150, 300, 600]


def test_rows_that_are_missing_are_missed() -> None:
    data = photos.png_file(photos.header(4, 4), photos.chunk(b"IDAT", zlib.compress(bytes(13))), _END)
    with pytest.raises(ValueError, match="missing"):
        raster.samples(data)

"""Orientation is read from any byte order, and from nothing that is malformed."""

from __future__ import annotations

import struct

import pytest
from PIL import Image

from chitram.images.adapters.decoder.exif import displayed, minimal_tiff, read_orientation


def _tiff(order: str, *entries: tuple[int, int, int, int], directory: int = 8) -> bytes:
    head = b"II*\0" if order == "<" else b"MM\0*"
    body = b"".join(struct.pack(f"{order}HHIHH", *entry, 0) for entry in entries)
    return head + struct.pack(f"{order}IH", directory, len(entries)) + body + bytes(4)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_is_read_in_either_byte_order_wherever_it_stands(order: str, orientation: int) -> None:
    block = _tiff(order, (0x010F, 3, 1, 7), (0x0112, 3, 1, orientation), (0x011A, 3, 1, 5))
    assert read_orientation(block) == orientation


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"II",
        b"XX*\0" + bytes(40),
        b"MM\0*",
        _tiff("<"),
        _tiff("<", (0x0112, 3, 1, 0)),
        _tiff("<", (0x0112, 3, 1, 9)),
        _tiff("<", (0x0112, 2, 1, 6)),
        _tiff("<", (0x0112, 3, 2, 6)),
        _tiff(">", (0x0112, 3, 1, 6), directory=0xFFFFFFF0),
        _tiff(">", (0x010F, 3, 1, 6))[:-8],
        b"MM\0*\0\0\0\x08\xff\xff" + bytes(100),
    ],
)
def test_is_upright_when_nothing_sensible_is_told(block: bytes) -> None:
    assert read_orientation(block) == 1


@pytest.mark.parametrize("orientation", range(2, 9))
def test_what_is_written_is_read_again_by_us_and_by_others(orientation: int) -> None:
    block = minimal_tiff(orientation)
    others = Image.Exif()
    others.load(b"Exif\0\0" + block)
    assert read_orientation(block) == orientation
    assert dict(others) == {0x0112: orientation}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_as_displayed_is_that_of_the_upright_image(orientation: int) -> None:
    transposed = {5, 6, 7, 8}
    assert displayed(4, 3, orientation) == ((3, 4) if orientation in transposed else (4, 3))

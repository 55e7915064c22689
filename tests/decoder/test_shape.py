"""The shape of a stored original is read from its header alone, and is the one that its upload got."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from chitram.images.adapters.decoder import jpeg, png
from chitram.images.domain.errors import CorruptImage
from tests.support import photos


@pytest.mark.parametrize("make", photos.JPEGS.values(), ids=photos.JPEGS)
def test_a_jpeg_has_the_shape_that_was_found_on_its_upload(make: Callable[[], bytes]) -> None:
    data = make()
    found = jpeg.examine(data, max_pixels=sys.maxsize, keep_metadata=False)
    assert jpeg.shape(data).displayed == (found.width, found.height)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_both_formats_tell_how_they_stand(orientation: int) -> None:
    assert jpeg.shape(photos.with_metadata(photos.jpeg(32, 16), orientation)).orientation == orientation
    assert (
        png.shape(photos.with_chunks(photos.png(), photos.png_exif(orientation))).orientation == orientation
    )


def test_nothing_of_a_scan_is_read() -> None:
    data = photos.jpeg(32, 16)
    header = data.index(b"\xff\xda") + 14
    assert jpeg.shape(data[:header]) == jpeg.shape(data)


def test_a_jpeg_without_a_frame_before_its_first_scan_has_no_shape() -> None:
    data = photos.jpeg(32, 16)
    frame, tables = data.index(b"\xff\xc0"), data.index(b"\xff\xc4")
    for broken in (data[:frame] + data[tables:], data[:frame], data[:frame] + b"\xff\xd9"):
        with pytest.raises(CorruptImage):
            jpeg.shape(broken)

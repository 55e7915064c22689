"""Photographs to upload, of real content, made once and kept in `.bench/` of the checkout.

`unique` of tests/support/photos.py makes as many of one as are needed, no two with the same bytes.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from tests.support.photos import clean_photo, encode, jpeg

KEPT = Path(__file__).parents[1] / ".bench" / "photos"
# Height to width, for so many megapixels at most.
_SIDES = {0.3: (640, 480), 2: (1632, 1224), 12: (4000, 3000), 50: (8160, 6120)}
# Of what an image may have by default, CHITRAM_MAX_UPLOAD_BYTES.
_MOST_BYTES = 4_900_000
_QUALITY = 90
_CLOSE_ENOUGH = 0.02


def photo(megapixels: float) -> bytes:
    """A JPEG of 0.3, 2, 12 or 50 megapixels with the noise of a camera's sensor.

    About 0.1, 0.7 and 4.2 MB; that of 50 megapixels is without the noise and of the quality at which it
    is 4.9 MB at most.
    """
    width, height = _SIDES[megapixels]
    if megapixels == max(_SIDES):
        return kept(f"{megapixels:g}mp.jpg", lambda: _largest(width, height))
    return kept(f"{megapixels:g}mp.jpg", lambda: jpeg(width, height, quality=_QUALITY))


def of_bytes(size: int) -> bytes:
    """A JPEG with the noise of a camera's sensor of so many bytes, within 2 %."""
    return kept(f"{size}.jpg", lambda: _near(size))


def _near(size: int) -> bytes:
    width = 400
    while True:
        content = jpeg(width, width * 3 // 4, quality=_QUALITY)
        if abs(len(content) - size) < _CLOSE_ENOUGH * size:
            return content
        width = round(width * (size / len(content)) ** 0.5)


def _largest(width: int, height: int) -> bytes:
    image = clean_photo("coffee.png").resize((width, height), Image.Resampling.BICUBIC)
    for quality in range(_QUALITY, 0, -5):
        content = encode(image, "JPEG", quality=quality)
        if len(content) <= _MOST_BYTES:
            return content
    raise AssertionError("no quality makes it small enough")


def kept(name: str, make: Callable[[], bytes]) -> bytes:
    """What `make` makes, from the file of this name that an earlier run has written."""
    path = KEPT / name
    if not path.exists():
        KEPT.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f"{name}.{secrets.token_hex(4)}")
        unfinished.write_bytes(make())
        unfinished.replace(path)
    return path.read_bytes()

"""Images of 50 megapixels that are accepted by default, and take the most memory to make thumbnails of."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial

from PIL import Image

from benchmarks.photos import kept, photo
from tests.support.photos import chunk, clean_photo, encode, header, png_file

# Of the 50,000,000 pixels and 5,242,880 bytes that are accepted.
_WIDE, _HIGH = 8160, 6120
_COLUMN = 50_000_000
_SAMPLES = {0: 1, 2: 3, 4: 2, 6: 4}
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_ZEROS = bytes(1 << 20)


def blank_png(width: int, height: int, depth: int, colour: int, *, interlace: bool = False) -> bytes:
    """A PNG of zeros in any depth, colour type and interlacing: small as a file, large as a picture."""
    left = sum(
        rows * (1 + (columns * depth * _SAMPLES[colour] + 7) // 8)
        for columns, rows in _passes(width, height, interlace=interlace)
    )
    stream = zlib.compressobj(6)
    parts = []
    while left:
        parts.append(stream.compress(_ZEROS[: min(left, len(_ZEROS))]))
        left -= min(left, len(_ZEROS))
    parts.append(stream.flush())
    return png_file(
        header(width, height, depth, colour, int(interlace)), chunk(b"IDAT", b"".join(parts)), chunk(b"IEND")
    )


def _passes(width: int, height: int, *, interlace: bool) -> Iterator[tuple[int, int]]:
    """Columns and rows of what is coded one after the other; empty ones are not coded (PNG 8.2)."""
    for left, top, across, down in _ADAM7 if interlace else ((0, 0, 1, 1),):
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0 and rows > 0:
            yield columns, rows


def _jpeg(mode: str, **options: object) -> bytes:
    """A photograph without noise, with which it would take too many bytes."""
    image = clean_photo("coffee.png").convert(mode).resize((_WIDE, _HIGH), Image.Resampling.BICUBIC)
    return encode(image, "JPEG", **options)


Images = Mapping[str, Callable[[], bytes]]


def _kept(images: Images) -> Images:
    """The same, each made once."""
    return {name: partial(kept, name.replace(" ", "-"), make) for name, make in images.items()}


BASELINE: Images = {"baseline JPEG": partial(photo, 50)}
WORST = _kept(
    {
        "progressive JPEG": partial(_jpeg, "RGB", quality=50, progressive=True, subsampling=0),
        "CMYK JPEG": partial(_jpeg, "CMYK", quality=50),
        "progressive CMYK JPEG": partial(_jpeg, "CMYK", quality=40, progressive=True),
        "16-bit RGBA PNG": partial(blank_png, _WIDE, _HIGH, 16, 6),
        "interlaced RGBA PNG": partial(blank_png, _WIDE, _HIGH, 8, 6, interlace=True),
        "one column of PNG": partial(blank_png, 1, _COLUMN, 8, 6),
    }
)

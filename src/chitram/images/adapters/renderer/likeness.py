"""Whether an encoded picture looks like the one that it was made of."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
from PIL import Image

from chitram.images.adapters.renderer.ssim import STEP, Map, Plane, ssim

# Of luma: on average, and in the worst hundredth of the windows. Photographs side by side at these
# values cannot be told apart at twice their size; from 0.95 on average down they can.
LEAST_SSIM = 0.98
LEAST_WORST_SSIM = 0.92
# Of chroma, whose loss is seen less: coding it at a quarter of the pixels leaves photographs above
# 0.74, and coloured letters, which bleed, below 0.68.
LEAST_WORST_CHROMA = 0.7
_WORST_PERCENTILE = 1
# Rows that are compared at a time, which bounds the memory; whole steps.
_BAND_ROWS = 64 * STEP
# A sample has so many tiles of so many pixels along each side: multiples of what JPEG codes as one.
_TILES = 4
_TILE_SIDE = 256


def looks_the_same(image: Image.Image, content: bytes) -> bool:
    """Whether a file shows a picture as `image` does; what is transparent, over white and over black."""
    with Image.open(io.BytesIO(content)) as other:
        # An encoder may leave out that everything is opaque.
        shown = other.convert("RGBA") if image.mode == "RGBA" else other
        shown.load()
        bands = [_compared(image.crop(box), shown.crop(box)) for box in _bands(image.size)]
    luma, *chroma = (np.concatenate(each) for each in zip(*bands, strict=True))
    if float(luma.mean()) < LEAST_SSIM or _worst(luma) < LEAST_WORST_SSIM:
        return False
    return all(_worst(each) >= LEAST_WORST_CHROMA for each in chroma)


def _bands(size: tuple[int, int]) -> Iterator[tuple[int, int, int, int]]:
    """Cut a picture into bands that share a step of rows, so that no window is missed."""
    width, height = size
    for top in range(0, max(1, height - STEP), _BAND_ROWS):
        yield 0, top, width, min(height, top + _BAND_ROWS + STEP)


def _compared(one: Image.Image, other: Image.Image) -> list[Map]:
    """Return the similarity of luma and of each chroma, over all backgrounds."""
    found = [
        [ssim(*planes) for planes in zip(_planes(a), _planes(b), strict=True)]
        for a, b in zip(_on_backgrounds(one), _on_backgrounds(other), strict=True)
    ]
    return [np.concatenate([index.ravel() for index in same]) for same in zip(*found, strict=True)]


def _on_backgrounds(image: Image.Image) -> Iterator[Image.Image]:
    """Yield what is seen of a picture on white and on black, or itself where it hides nothing."""
    if image.mode != "RGBA":
        yield image
        return
    for background in ("white", "black"):
        yield Image.alpha_composite(Image.new("RGBA", image.size, background), image).convert("RGB")


def _worst(index: Map) -> float:
    return float(np.percentile(index, _WORST_PERCENTILE))


def _planes(image: Image.Image) -> list[Plane]:
    """Return luma and both chromas, as JPEG defines them."""
    return [np.asarray(each) for each in image.convert("YCbCr").split()]


def sample(image: Image.Image) -> Image.Image:
    """Return tiles from all over a picture in one, or the picture itself where it is no larger."""
    side = _TILES * _TILE_SIDE
    if image.width * image.height <= side * side or min(image.size) < _TILE_SIDE:
        return image
    part = Image.new(image.mode, (side, side))
    steps = [(full - _TILE_SIDE) / (_TILES - 1) for full in image.size]
    for row in range(_TILES):
        for column in range(_TILES):
            left, top = round(column * steps[0]), round(row * steps[1])
            tile = image.crop((left, top, left + _TILE_SIDE, top + _TILE_SIDE))
            part.paste(tile, (column * _TILE_SIDE, row * _TILE_SIDE))
    return part

"""Say the same pixels in fewer bits."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

_MAX_COLOURS = 256
# Rows that are worked on at a time, which bounds the memory.
_BAND_ROWS = 256


def fewest_colours(image: Image.Image) -> Image.Image:
    """Return a picture of the same pixels without what it does not need.

    That is transparency where nothing is transparent, colour where all is grey, and one byte or
    less for each pixel where there are at most 256 colours.
    """
    if image.mode in {"LA", "RGBA"} and image.getchannel("A").getextrema() == (255, 255):
        image = image.convert(image.mode[:-1])
    if image.mode in {"RGB", "RGBA"} and _is_grey(image):
        image = image.convert("LA" if image.mode == "RGBA" else "L")
    if image.mode == "L":
        return image
    return _indexed(image) or image


def _is_grey(image: Image.Image) -> bool:
    red, green, blue = (image.getchannel(each).tobytes() for each in "RGB")
    return red == green == blue


def _indexed(image: Image.Image) -> Image.Image | None:
    """Return the picture with a palette, or None when it has too many colours."""
    image = image if image.mode in {"RGB", "RGBA"} else image.convert("RGBA")
    counted = image.getcolors(_MAX_COLOURS)
    if counted is None:
        return None
    colours = np.array([colour for _, colour in counted], np.uint8)
    order = np.argsort(_packed(colours))
    packed = _packed(colours)[order]
    indices = np.empty((image.height, image.width), np.uint8)
    for top in range(0, image.height, _BAND_ROWS):
        band = np.asarray(image.crop((0, top, image.width, min(top + _BAND_ROWS, image.height))))
        indices[top : top + _BAND_ROWS] = np.searchsorted(packed, _packed(band))
    made = Image.fromarray(indices, "P")
    made.putpalette(colours[order].tobytes(), image.mode)
    return made


def _packed(colours: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint32]:
    """Return one number for each colour, of three or four bytes in the last axis."""
    number = np.zeros(colours.shape[:-1], np.uint32)
    for channel in np.moveaxis(colours, -1, 0):
        number = (number << 8) | channel
    return number

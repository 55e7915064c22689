"""Say the same pixels in fewer bits."""

from __future__ import annotations

import numpy as np
from PIL import Image

_MAX_COLOURS = 256


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
    """Return the picture with a palette, its transparent colours first, or None for too many colours."""
    image = image if image.mode in {"RGB", "RGBA"} else image.convert("RGBA")
    if image.getcolors(_MAX_COLOURS) is None:
        return None
    channels = len(image.mode)
    pixels = np.asarray(image).reshape(-1, channels).astype(np.uint32)
    shifts = np.array([0, 8, 16, 24][:channels], np.uint32)
    packed = (pixels << shifts).sum(1, dtype=np.uint32)
    colours, indices = np.unique(packed, return_inverse=True)
    palette = (colours[:, None] >> shifts & 255).astype(np.uint8)
    made = Image.fromarray(indices.astype(np.uint8).reshape(image.height, image.width), "P")
    made.putpalette(palette.tobytes(), image.mode)
    return made

"""The three thumbnails of an original, from one decode."""

from __future__ import annotations

from PIL import Image

from chitram.images.adapters.decoder.exif import displayed
from chitram.images.adapters.renderer.colour import to_srgb
from chitram.images.adapters.renderer.encode import encoded
from chitram.images.adapters.renderer.original import Original, Size
from chitram.images.adapters.renderer.protocol import Encoded
from chitram.images.domain.rendition import THUMBNAIL_SIDES, RenditionFormat, RenditionKind, fitted

# Coarser where each pixel is looked at closer. The chroma of a quarter of the pixels is enough for
# photographs, except in the smallest; the coloured edges of graphics need it all. Progressive coding
# would save 3 % of the bytes at 600 pixels and nothing at 150, for a tenth of the renderer's time.
_QUALITIES = {RenditionKind.SMALL: 86, RenditionKind.MEDIUM: 84, RenditionKind.LARGE: 82}
_FULL_CHROMA, _QUARTER_CHROMA = 0, 2
_OPAQUE = 255
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def thumbnails(original: Original, orientation: int) -> list[Encoded]:
    """Make the thumbnails: the largest from the original, each other from the one before it."""
    shown = displayed(*original.size, orientation)
    sides = sorted(THUMBNAIL_SIDES.items(), key=lambda each: -each[1])
    image = _largest(original, orientation, fitted(*shown, sides[0][1]))
    made = []
    for kind, side in sides:
        image = _resized(image, fitted(*shown, side))
        made.append(_encoded(kind, image, is_graphics=not original.is_jpeg))
    return made[::-1]


def _largest(original: Original, orientation: int, size: Size) -> Image.Image:
    """Decode, shrink, convert to sRGB and put upright, in the order that costs least."""
    wanted = displayed(*size, orientation)
    image, extent = original.shrunk(wanted)
    if (image.size, extent) != (wanted, wanted):
        image = image.resize(wanted, Image.Resampling.LANCZOS, box=(0, 0, *extent))
    image = upright(to_srgb(image, original.profile), orientation)
    if image.mode in {"LA", "RGBA"} and image.getchannel("A").getextrema()[0] == _OPAQUE:
        return image.convert(image.mode[:-1])
    return image


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """Rotate and mirror as an Exif orientation asks for."""
    method = _UPRIGHT.get(orientation)
    return image if method is None else image.transpose(method)


def _resized(image: Image.Image, size: Size) -> Image.Image:
    return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)


def _encoded(kind: RenditionKind, image: Image.Image, *, is_graphics: bool) -> Encoded:
    if image.mode in {"LA", "RGBA"}:
        return encoded(kind, image, RenditionFormat.PNG, optimize=True)
    return encoded(
        kind,
        image,
        RenditionFormat.JPEG,
        quality=_QUALITIES[kind],
        subsampling=_FULL_CHROMA if is_graphics or kind is RenditionKind.SMALL else _QUARTER_CHROMA,
        optimize=True,
    )

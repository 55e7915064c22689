"""An original, decoded once and shrunk on the way as far as quality allows."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
import simplejpeg
from PIL import Image, ImageFile, JpegImagePlugin, PngImagePlugin, TiffImagePlugin

from chitram.images.adapters.decoder.png_metadata import MAX_INFLATED_BYTES
from chitram.images.adapters.decoder.source import Source
from chitram.images.adapters.renderer.raster import is_extreme, samples
from chitram.images.domain.image import ImageFormat

# Imported by Pillow only when it meets Exif, and a child can open nothing then.
_ = TiffImagePlugin
# The limits of pixels and metadata were kept on upload.
Image.MAX_IMAGE_PIXELS = None
PngImagePlugin.MAX_TEXT_CHUNK = MAX_INFLATED_BYTES + 1

# Averaging leaves at least this many times the pixels that are asked for along each side: what is left
# to shrink is left to a better filter.
OVERSAMPLING = 2
# Decoding at N/8 of the size, which blurs less than averaging, leaves this many in hundredths.
# Photographs lose 0.0016 of SSIM at most against twice the pixels; at 125 they lose 0.0035, and 7 %
# of what a Laplacian finds.
_DECODED_PERCENT = 150
# What is converted and averaged at a time, so that no second copy of a large picture is ever held.
_TILE_PIXELS = 1 << 20
_TILE_COLUMNS = 4096
# Where Pillow leaves the transparent grey as it is coded.
_BITS = {"L;2": 2, "L;4": 4}
# What a sample of 1 is in eight bits.
_LEVELS = {"1": 255, "L;2": 85, "L;4": 17}
# As gAMA and cHRM have to tell them beside sRGB (PNG 11.3.2.5): white, red, green, blue.
_GAMMA = 0.45455
_CHROMATICITY = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
_SAME = 0.01
_NO_MEMORY = "Insufficient memory"

_READERS: dict[ImageFormat, Callable[[Any], ImageFile.ImageFile]] = {
    ImageFormat.JPEG: JpegImagePlugin.JpegImageFile,
    ImageFormat.PNG: PngImagePlugin.PngImageFile,
}

Size = tuple[int, int]
Box = tuple[int, int, int, int]
Crop = Callable[[Box], Image.Image]
# N of the sizes, in eighths, that JPEG can be decoded at.
_EIGHTHS = range(8, 0, -1)


class Shrunk(NamedTuple):
    """A picture, and how far the original reaches in it: scaled sides are rounded up.

    Stretched over what was rounded up, a thumbnail would be off by up to half a pixel at its far edges,
    which costs 0.023 of SSIM.
    """

    image: Image.Image
    extent: tuple[float, float]


class Original:
    """A stored JPEG or PNG, from `data`. Sizes are as coded, before rotation."""

    def __init__(self, data: Source, kind: ImageFormat) -> None:
        self._data = data
        self.byte_size = len(data)
        file = io.BytesIO(data) if isinstance(data, bytes) else data
        # Not by `Image.open`, which looks for several pictures in a file.
        self._image = _READERS[kind](file)
        self.size: Size = self._image.size
        self.profile: bytes | None = self._image.info.get("icc_profile")
        self.is_jpeg = kind is ImageFormat.JPEG
        # How the samples of a PNG are coded: bit depth and channels in one word.
        self._raw = "" if self.is_jpeg else str(self._image.tile[0].args)

    @property
    def has_sixteen_bits(self) -> bool:
        """Whether a sample is more than what decoding leaves of it."""
        return "16" in self._raw

    @property
    def is_animated(self) -> bool:
        """Whether it is a PNG that moves, of which decoding gives one picture."""
        return bool(getattr(self._image, "is_animated", False))

    @property
    def subsampling(self) -> int:
        """How the chroma of a JPEG is coded, as Pillow counts: 0 at full size, 1 at half, 2 at a quarter."""
        return max(0, JpegImagePlugin.get_sampling(self._image))

    @property
    def has_known_colours(self) -> bool:
        """Whether a profile, or nothing, says which colours the numbers are."""
        info = self._image.info
        if not self.is_jpeg and self._data.find(b"cICP", 0, self._data.find(b"IDAT")) >= 0:
            return False
        if self.profile or "srgb" in info:
            return True
        told = (info.get("gamma", _GAMMA), *info.get("chromaticity", _CHROMATICITY))
        return all(
            abs(one - other) < _SAME for one, other in zip(told, (_GAMMA, *_CHROMATICITY), strict=True)
        )

    def shrunk(self, wanted: Size) -> Shrunk:
        """Decode to a picture that oversamples `wanted`, or is `wanted` where that is the full size.

        Its mode is L, RGB, LA, RGBA or CMYK. Raises what the libraries raise.
        """
        if not self.is_jpeg:
            crop = self._extreme_png() if is_extreme(self.size) else self._decoded_png()
            factors = _factors(self.size, wanted)
            return Shrunk(self._reduced(self.size, crop, factors), _divided(self.size, factors))
        image = self._decoded_jpeg(wanted)
        factors, extent = _factors(image.size, wanted), self._extent(image.size)
        if factors == (1, 1):
            return Shrunk(image, extent)
        return Shrunk(self._reduced(image.size, image.crop, factors), _divided(extent, factors))

    def whole(self) -> Image.Image:
        """Decode at full size, to the same modes as `shrunk`."""
        return self.shrunk(self.size).image

    def _extent(self, decoded: Size) -> tuple[float, float]:
        """How far the picture reaches in what a decoder has made of it at N/8 of its size."""
        width, height = self.size
        for number in _EIGHTHS:
            if decoded == (-(-width * number // 8), -(-height * number // 8)):
                return width * number / 8, height * number / 8
        raise ValueError(f"the picture was decoded at {decoded}")

    def _decoded_jpeg(self, wanted: Size) -> Image.Image:
        """Decode at the least N/8 of the size that is enough.

        Four inks are taken as inverted, with Adobe's marker or without, as every browser does.
        """
        mode = self._image.mode
        least = [
            min(full, -(-_DECODED_PERCENT * need // 100))
            for full, need in zip(self.size, wanted, strict=True)
        ]
        try:
            samples = simplejpeg.decode_jpeg(
                self._data,
                "GRAY" if mode == "L" else mode,
                min_width=least[0],
                min_height=least[1],
                strict=False,
            )
        except ValueError as error:
            if _NO_MEMORY in str(error):
                raise MemoryError from error
            # TurboJPEG knows the subsamplings in use and takes every warning for an error; libjpeg,
            # which Pillow uses, decodes any.
            self._image.draft(None, (least[0], least[1]))
            self._image.load()
            return self._image
        if mode == "CMYK":
            np.subtract(255, samples, out=samples)
        return Image.fromarray(samples[:, :, 0] if mode == "L" else samples, mode)

    def _decoded_png(self) -> Crop:
        self._image.load()
        return self._image.crop

    def _extreme_png(self) -> Crop:
        """Decode without an image of Pillow's that is as large as the picture."""
        raster = samples(self._data)
        if self._raw in _LEVELS:
            raster *= _LEVELS[self._raw]

        def crop(box: Box) -> Image.Image:
            left, top, right, bottom = box
            part = np.ascontiguousarray(raster[top:bottom, left:right])
            if self._image.mode != "P":
                return Image.fromarray(part)
            tile = Image.fromarray(part, "P")
            # Whoever loads it first uses it up.
            tile.palette = self._image.palette.copy() if self._image.palette else None
            tile.info = dict(self._image.info)
            return tile

        return crop

    def _reduced(self, full: Size, crop: Crop, factors: Size) -> Image.Image:
        """Average blocks of pixels and bring them to a working mode, tile by tile."""
        columns, rows = factors
        canvas: Image.Image | None = None
        for box in _tiles(full, factors):
            tile = self._working(crop(box)).reduce(factors)
            if canvas is None:
                size = (-(-full[0] // columns), -(-full[1] // rows))
                if tile.size == size:
                    return tile
                canvas = Image.new(tile.mode, size)
            canvas.paste(tile, (box[0] // columns, box[1] // rows))
        assert canvas is not None  # noqa: S101 - there is no picture without a tile
        return canvas

    def _working(self, tile: Image.Image) -> Image.Image:
        """Bring a part of the picture to L, RGB, LA, RGBA or CMYK."""
        if tile.mode == "I;16":
            return self._from_sixteen_bits(tile)
        if tile.mode == "P":
            return tile.convert("RGBA" if "transparency" in tile.info else "RGB")
        if self._raw == "LA;16B":
            return tile.convert("LA")
        if tile.mode == "1":
            tile = tile.convert("L")
        key = self._image.info.get("transparency")
        if key is None or tile.mode not in {"L", "RGB"}:
            return tile
        tile.info["transparency"] = self._in_eight_bits(key)
        return tile.convert(f"{tile.mode}A")

    def _from_sixteen_bits(self, tile: Image.Image) -> Image.Image:
        """Scale 16 bits of grey to 8, which Pillow's own conversion clips."""
        samples = np.asarray(tile, np.uint32)
        grey = Image.fromarray(((samples * 255 + 32_895) >> 16).astype(np.uint8))
        key = self._image.info.get("transparency")
        if key is None:
            return grey
        grey.putalpha(Image.fromarray(np.where(samples == key, 0, 255).astype(np.uint8)))
        return grey

    def _in_eight_bits(self, key: int | Size) -> int | tuple[int, ...]:
        """Scale a transparent colour as Pillow scales the samples that it is compared with."""
        if isinstance(key, tuple):
            return tuple(each >> 8 for each in key) if self._raw.endswith("16B") else key
        return key * 255 // ((1 << _BITS.get(self._raw, 8)) - 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._image.close()


def _factors(full: Size, wanted: Size) -> Size:
    """How many pixels may be averaged along each side, so that enough are left."""
    columns, rows = (max(1, side // (OVERSAMPLING * need)) for side, need in zip(full, wanted, strict=True))
    return columns, rows


def _divided(extent: tuple[float, float], factors: Size) -> tuple[float, float]:
    return extent[0] / factors[0], extent[1] / factors[1]


def _tiles(size: Size, factors: Size) -> Iterator[Box]:
    """Cover a picture with boxes whose corners lie on multiples of `factors`."""
    columns = factors[0] * max(1, _TILE_COLUMNS // factors[0])
    rows = factors[1] * max(1, _TILE_PIXELS // min(columns, size[0]) // factors[1])
    for top in range(0, size[1], rows):
        for left in range(0, size[0], columns):
            yield left, top, min(left + columns, size[0]), min(top + rows, size[1])

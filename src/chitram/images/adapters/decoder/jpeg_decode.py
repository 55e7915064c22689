"""Decode a JPEG for the sake of its errors."""

from __future__ import annotations

import io
import re

import simplejpeg
from PIL import Image

from chitram.images.adapters.decoder.jpeg_markers import Frame
from chitram.images.domain.errors import CorruptImage

# The bomb limit is ours to check, from the header.
Image.MAX_IMAGE_PIXELS = None

# Warnings that say nothing about the pixels: a few bytes too many behind the last scan, which some
# cameras write, and scans whose order is unusual. Up to 8 bytes, as between segments.
_HARMLESS = re.compile(
    r"Corrupt JPEG data: [1-8] extraneous bytes before marker 0xd9"
    r"|Inconsistent progression sequence for component \d+ coefficient \d+"
)
# TurboJPEG knows the subsamplings in use; libjpeg decodes any.
_ODD_SUBSAMPLING = "Could not determine subsampling level"
_NO_MEMORY = "Insufficient memory"


def decode(stream: bytes, frame: Frame) -> None:
    """Decode all of a JPEG's entropy-coded data; raises `CorruptImage` and `MemoryError`.

    Pixels come out at an eighth of the size, which spares most of the arithmetic, and of a colour
    image only the luma: neither keeps libjpeg from reading every coefficient of every component.
    """
    try:
        simplejpeg.decode_jpeg(
            stream,
            "CMYK" if frame.is_cmyk else "GRAY",
            fastdct=True,
            fastupsample=True,
            min_height=1,
            min_width=1,
            min_factor=8,
            strict=True,
        )
    except ValueError as error:
        _judge(str(error), stream)


def _judge(complaint: str, stream: bytes) -> None:
    if _HARMLESS.fullmatch(complaint):
        return
    if _NO_MEMORY in complaint:
        raise MemoryError
    if _ODD_SUBSAMPLING not in complaint:
        reason = complaint.removeprefix("Corrupt JPEG data: ")
        raise CorruptImage(f"The JPEG cannot be decoded: {reason}.")
    decode_any_subsampling(stream)


def decode_any_subsampling(stream: bytes) -> None:
    """Decode by libjpeg through Pillow, which tells truncation and errors but not warnings.

    At full size and in colour: there are factors at which libjpeg can make the small image alone.
    """
    try:
        with Image.open(io.BytesIO(stream), formats=["JPEG"]) as image:
            image.load()
    except (OSError, SyntaxError, ValueError) as error:
        raise CorruptImage("The JPEG cannot be decoded.") from error

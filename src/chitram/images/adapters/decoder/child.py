"""A decoder: the program that a pool starts, with its end of a socket as standard input."""

from __future__ import annotations

import mmap

import numpy as np
import simplejpeg

from chitram.images.adapters.children.serve import serve
from chitram.images.adapters.decoder import jpeg, jpeg_decode, png
from chitram.images.adapters.decoder.protocol import Accepted, Answer, Job, Terms
from chitram.images.adapters.decoder.refusals import as_message, over_limits
from chitram.images.adapters.decoder.sniff import image_format
from chitram.images.adapters.decoder.source import Found, Source
from chitram.images.domain.content import Slice
from chitram.images.domain.errors import CorruptImage, ImageTooLarge, InvalidFileFormat
from chitram.images.domain.image import ImageFormat

_EXAMINERS = {ImageFormat.JPEG: jpeg.examine, ImageFormat.PNG: png.examine}


def main() -> None:
    """Answer jobs until the pool closes the socket."""
    serve(Terms, Job, _warm_up, lambda descriptor, job, terms: answer_for(descriptor, job.size, terms))


def _warm_up(terms: Terms) -> None:
    tiny = simplejpeg.encode_jpeg(np.zeros((8, 8, 3), np.uint8))
    _answer_about(tiny, terms)
    _answer_about(b"<svg/>", terms)
    jpeg_decode.decode_any_subsampling(tiny)


def answer_for(descriptor: int, size: int, terms: Terms) -> Answer:
    """Examine the `size` bytes of an open file."""
    if size == 0:
        return _answer_about(b"", terms)
    try:
        return _answer_about(mmap.mmap(descriptor, size, access=mmap.ACCESS_READ), terms)
    except MemoryError:
        return as_message(over_limits())


def _answer_about(data: Source, terms: Terms) -> Answer:
    try:
        found = examine(data, terms)
    except (InvalidFileFormat, ImageTooLarge, CorruptImage) as error:
        return as_message(error)
    except MemoryError:
        return as_message(over_limits())
    except Exception as error:  # noqa: BLE001 - whatever hostile bytes provoke is a refusal of these bytes
        return as_message(CorruptImage(), cause=error)
    pieces = [(each.offset, each.length) if isinstance(each, Slice) else each for each in found.pieces]
    return Accepted(format=found.format, width=found.width, height=found.height, pieces=pieces)


def examine(data: Source, terms: Terms) -> Found:
    """Decide what `data` is, prove it whole and plan what to store.

    Raises `InvalidFileFormat`, `ImageTooLarge`, `CorruptImage` and `MemoryError`.
    """
    kind = image_format(data, terms.allowed_formats)
    return _EXAMINERS[kind](data, max_pixels=terms.max_pixels, keep_metadata=terms.keep_metadata)


if __name__ == "__main__":
    main()

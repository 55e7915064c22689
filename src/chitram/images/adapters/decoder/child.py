"""A decoder: the program that a pool starts, with its end of a socket as standard input."""

from __future__ import annotations

import mmap
import os
import signal
import socket

import msgspec
import numpy as np
import simplejpeg

from chitram.images.adapters.decoder import jpeg, jpeg_decode, png
from chitram.images.adapters.decoder.confine import confine, limit_cpu
from chitram.images.adapters.decoder.protocol import (
    LENGTH_BYTES,
    MAX_FRAME_BYTES,
    Accepted,
    Answer,
    Job,
    Ready,
    Terms,
    frame,
)
from chitram.images.adapters.decoder.refusals import as_message, over_limits
from chitram.images.adapters.decoder.sniff import image_format
from chitram.images.adapters.decoder.source import Found, Source
from chitram.images.domain.content import Slice
from chitram.images.domain.errors import CorruptImage, ImageTooLarge, InvalidFileFormat
from chitram.images.domain.image import ImageFormat

_EXAMINERS = {ImageFormat.JPEG: jpeg.examine, ImageFormat.PNG: png.examine}


def main() -> None:
    """Answer jobs until the pool closes the socket.

    A decoder outlives the signals of a shutdown: what it works on may be finished.
    """
    for stop in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stop, signal.SIG_IGN)
    with socket.socket(fileno=0) as connection:
        terms = msgspec.msgpack.decode(_receive(connection)[0], type=Terms)
        _warm_up(terms)
        confine(terms.memory_bytes)
        connection.sendall(frame(Ready()))
        while True:
            body, descriptors = _receive(connection)
            if not body:
                return
            job = msgspec.msgpack.decode(body, type=Job)
            limit_cpu(terms.cpu_seconds)
            try:
                answer = answer_for(descriptors[0], job.size, terms)
            finally:
                os.close(descriptors[0])
            connection.sendall(frame(answer))


def _receive(connection: socket.socket) -> tuple[bytes, list[int]]:
    """Read a message, which the pool always sends in one piece; empty when the pool has gone."""
    data, descriptors, _, _ = socket.recv_fds(connection, MAX_FRAME_BYTES, 1)
    return data[LENGTH_BYTES:], descriptors


def _warm_up(terms: Terms) -> None:
    """Bring in everything that libraries load late: later on no file can be opened."""
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

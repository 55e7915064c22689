"""Received bytes, what was found in them, and what of them is stored."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from chitram.images.domain.image import ImageFormat

_READ_BYTES = 256 * 1024


class Received(Protocol):
    """A whole upload on disk.

    `fileno()` is an open, seekable descriptor that is only ever read with explicit offsets.
    """

    @property
    def size(self) -> int: ...

    @property
    def sha256(self) -> bytes:
        """Digest of the bytes as received."""
        ...

    def fileno(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Slice:
    """Bytes kept from what was received: `length` bytes from `offset` on."""

    offset: int
    length: int


Piece = Slice | bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What a decoder found out about an upload that it proved whole.

    Attributes:
        width: pixels across as displayed, after EXIF orientation.
        height: pixels down as displayed.
        pieces: the stored bytes, as slices of what was received and literal bytes between them.
        size: length of the stored bytes.
        sha256: digest of the stored bytes.
    """

    format: ImageFormat
    width: int
    height: int
    pieces: tuple[Piece, ...]
    size: int
    sha256: bytes


def stored_chunks(received: Received, pieces: tuple[Piece, ...]) -> Iterator[bytes]:
    """Yield the stored bytes in order, at most 256 KiB at a time. Blocking: reads the disk."""
    for piece in pieces:
        if isinstance(piece, bytes):
            yield piece
            continue
        offset, end = piece.offset, piece.offset + piece.length
        while offset < end:
            chunk = os.pread(received.fileno(), min(_READ_BYTES, end - offset), offset)
            if not chunk:
                raise EOFError("the spool is shorter than its inspection says")
            yield chunk
            offset += len(chunk)

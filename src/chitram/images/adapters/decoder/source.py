"""The bytes of an upload as the readers see them, and the plan of what to keep of them."""

from __future__ import annotations

import mmap
from collections.abc import Iterable
from dataclasses import dataclass

from chitram.images.adapters.decoder.exif import displayed
from chitram.images.domain.content import Piece, Slice
from chitram.images.domain.image import ImageFormat

Source = bytes | mmap.mmap


@dataclass(frozen=True, slots=True)
class Found:
    """A whole image: width and height as displayed, `pieces` to store, in order."""

    format: ImageFormat
    width: int
    height: int
    pieces: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class Shape:
    """What a file's header says of its picture: size in pixels as coded, orientation of 1 to 8."""

    format: ImageFormat
    width: int
    height: int
    orientation: int

    @property
    def displayed(self) -> tuple[int, int]:
        """Width and height once the picture stands upright."""
        return displayed(self.width, self.height, self.orientation)


def merged(data: Source, pieces: Iterable[Piece]) -> tuple[Piece, ...]:
    """Join neighbours, so that a file with nothing to remove is one slice.

    Made-up bytes that stand in `data` just there already become part of the slice before them.
    """
    plan: list[Piece] = []
    for piece in pieces:
        last = plan[-1] if plan else None
        if isinstance(last, Slice):
            end = last.offset + last.length
            if isinstance(piece, Slice) and piece.offset == end:
                plan[-1] = Slice(last.offset, last.length + piece.length)
                continue
            if isinstance(piece, bytes) and data[end : end + len(piece)] == piece:
                plan[-1] = Slice(last.offset, last.length + len(piece))
                continue
        plan.append(piece)
    return tuple(plan)

"""The chunk structure of PNG (third edition), read and checked without decoding."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from chitram.images.adapters.decoder.source import Source
from chitram.images.domain.errors import CorruptImage

SIGNATURE_BYTES = 8
# 800 MB of pixels in the 8 KiB chunks that libpng writes.
MAX_CHUNKS = 100_000
_HEAD = struct.Struct(">I4s")
_IHDR = struct.Struct(">IIBBBBB")
_CRC_BYTES = 4
_MAX_LENGTH = (1 << 31) - 1

GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
# Samples per pixel and bit depths allowed for each colour type (11.2.1).
_COLOUR_TYPES = {
    GREY: (1, {1, 2, 4, 8, 16}),
    RGB: (3, {8, 16}),
    PALETTE: (1, {1, 2, 4, 8}),
    GREY_ALPHA: (2, {8, 16}),
    RGBA: (4, {8, 16}),
}


class Chunk(NamedTuple):
    """A chunk with a right checksum: `start` is at its length, `end` behind its checksum."""

    type: bytes
    start: int
    end: int

    def body(self, data: Source) -> bytes:
        """Return its data."""
        return data[self.start + _HEAD.size : self.end - _CRC_BYTES]

    @property
    def length(self) -> int:
        """Length of its data in bytes."""
        return self.end - self.start - _HEAD.size - _CRC_BYTES

    @property
    def is_critical(self) -> bool:
        """Whether a decoder that does not know the chunk has to give up (5.4)."""
        return not self.type[0] & 0x20


@dataclass(frozen=True, slots=True)
class Header:
    """IHDR: size in pixels and how pixels are coded."""

    width: int
    height: int
    bit_depth: int
    colour_type: int
    interlaced: bool

    @property
    def channels(self) -> int:
        """Samples of a pixel."""
        return _COLOUR_TYPES[self.colour_type][0]

    def row_bytes(self, width: int) -> int:
        """Length of `width` pixels, without the filter byte in front."""
        return (width * self.bit_depth * self.channels + 7) // 8


def chunks(data: Source) -> Iterator[Chunk]:
    """Yield every chunk from IHDR to IEND; raises `CorruptImage` where the structure breaks."""
    offset = SIGNATURE_BYTES
    with memoryview(data) as view:
        for _ in range(MAX_CHUNKS):
            chunk = _chunk_at(view, offset)
            yield chunk
            if chunk.type == b"IEND":
                return
            offset = chunk.end
    raise CorruptImage("The PNG has too many chunks.")


def _chunk_at(view: memoryview, offset: int) -> Chunk:
    if len(view) - offset < _HEAD.size + _CRC_BYTES:
        raise CorruptImage("The PNG is truncated: it has no IEND chunk.")
    length, kind = _HEAD.unpack_from(view, offset)
    if not (kind.isalpha() and length <= _MAX_LENGTH):
        raise CorruptImage("The PNG has a malformed chunk.")
    end = offset + _HEAD.size + length + _CRC_BYTES
    if end > len(view):
        raise CorruptImage("The PNG is truncated inside a chunk.")
    checksum = zlib.crc32(view[offset + 4 : end - _CRC_BYTES])
    if checksum.to_bytes(_CRC_BYTES, "big") != view[end - _CRC_BYTES : end]:
        raise CorruptImage(f"The PNG has a wrong checksum in its {kind.decode()} chunk.")
    return Chunk(kind, offset, end)


def read_header(data: Source, chunk: Chunk) -> Header:
    """Read IHDR; raises `CorruptImage` when it stands elsewhere than first or breaks the rules."""
    body = chunk.body(data)
    if chunk.type != b"IHDR" or len(body) != _IHDR.size:
        raise CorruptImage("The PNG does not begin with its header.")
    width, height, depth, colour, compression, filtering, interlace = _IHDR.unpack(body)
    _, depths = _COLOUR_TYPES.get(colour, (0, set[int]()))
    if not (0 < width <= _MAX_LENGTH and 0 < height <= _MAX_LENGTH):
        raise CorruptImage("The PNG has no pixels or too many.")
    if depth not in depths or compression or filtering or interlace > 1:
        raise CorruptImage("The PNG's header is not one that the standard knows.")
    return Header(width, height, depth, colour, bool(interlace))

"""Which ancillary chunks of a PNG are kept, and which would be a trap for whoever opens the file.

Kept are those that say how to show the pixels. Not among them: hIST and sPLT, hints for displays of
few colours, the second with a free name; whatever tells about people, places and tools; animation,
of which the still image is what is kept.
"""

from __future__ import annotations

import zlib

from chitram.images.adapters.decoder.png_chunks import (
    GREY,
    GREY_ALPHA,
    PALETTE,
    RGB,
    RGBA,
    Chunk,
    Header,
)
from chitram.images.adapters.decoder.source import Source
from chitram.images.domain.errors import CorruptImage

# Lengths by the standard, 11.3; pHYs, the shape of pixels, is kept as JFIF's density is.
_LENGTHS = {b"cHRM": 32, b"cICP": 4, b"cLLI": 8, b"gAMA": 4, b"mDCV": 24, b"pHYs": 9, b"sRGB": 1}
_LENGTHS_BY_COLOUR = {
    b"sBIT": {GREY: 1, RGB: 3, PALETTE: 3, GREY_ALPHA: 2, RGBA: 4},
    b"bKGD": {GREY: 2, RGB: 6, PALETTE: 1, GREY_ALPHA: 2, RGBA: 6},
    b"tRNS": {GREY: 2, RGB: 6},
}
_MAX_PROFILE_NAME = 79
# Real profiles and texts end below this; it bounds what a reader of the file may have to hold.
MAX_INFLATED_BYTES = 4 << 20


def is_kept(data: Source, chunk: Chunk, header: Header, palette_entries: int) -> bool:
    """Whether an ancillary chunk from before the image data is kept: it shows pixels and is sound."""
    if chunk.type == b"iCCP":
        return _is_sound_profile(chunk.body(data))
    return _has_known_length(chunk) and _has_right_length(chunk, header, palette_entries)


def _has_known_length(chunk: Chunk) -> bool:
    return chunk.type in _LENGTHS or chunk.type in _LENGTHS_BY_COLOUR


def _has_right_length(chunk: Chunk, header: Header, palette_entries: int) -> bool:
    length = chunk.length
    if chunk.type in _LENGTHS:
        return length == _LENGTHS[chunk.type]
    if chunk.type == b"tRNS" and header.colour_type == PALETTE:
        return 1 <= length <= palette_entries
    return length == _LENGTHS_BY_COLOUR[chunk.type].get(header.colour_type)


def refuse_traps(data: Source, found: list[Chunk], header: Header, palette_entries: int) -> None:
    """Raises `CorruptImage` for metadata that breaks readers: malformed, or inflating without end."""
    inflated = 0
    for chunk in found:
        if _has_known_length(chunk) and not _has_right_length(chunk, header, palette_entries):
            raise CorruptImage(f"The PNG's {chunk.type.decode()} chunk is malformed.")
        if chunk.type in {b"iCCP", b"zTXt", b"iTXt"}:
            inflated += _inflate(_deflated(chunk.type, chunk.body(data)))[0]
            if inflated > MAX_INFLATED_BYTES:
                raise CorruptImage(f"The PNG's metadata inflates to more than {MAX_INFLATED_BYTES} bytes.")


def _is_sound_profile(body: bytes) -> bool:
    name, _, _ = body.partition(b"\0")
    size, whole = _inflate(_deflated(b"iCCP", body))
    return 1 <= len(name) <= _MAX_PROFILE_NAME and whole and size <= MAX_INFLATED_BYTES


def _deflated(kind: bytes, body: bytes) -> bytes:
    """Return the compressed part of a profile or text; empty when it has none."""
    rest = body.partition(b"\0")[2]
    if kind != b"iTXt":
        return rest[1:]
    if rest[:1] != b"\1":
        return b""
    return rest[2:].split(b"\0", 2)[-1]


def _inflate(deflated: bytes) -> tuple[int, bool]:
    """Say how long a stream gets, as far as a byte above the limit, and whether it ends properly."""
    stream = zlib.decompressobj()
    try:
        return len(stream.decompress(deflated, MAX_INFLATED_BYTES + 1)), stream.eof
    except zlib.error:
        return 0, False

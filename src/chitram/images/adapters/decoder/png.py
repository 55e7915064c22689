"""PNG: prove the image whole, plan what to keep of the file."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Iterator

from chitram.images.adapters.decoder.exif import displayed, minimal_tiff, read_orientation
from chitram.images.adapters.decoder.png_chunks import (
    PALETTE,
    SIGNATURE_BYTES,
    Chunk,
    Header,
    chunks,
    read_header,
)
from chitram.images.adapters.decoder.png_decode import decode
from chitram.images.adapters.decoder.png_metadata import is_kept, refuse_traps
from chitram.images.adapters.decoder.refusals import too_large
from chitram.images.adapters.decoder.source import Found, Shape, Source, merged
from chitram.images.domain.content import Piece, Slice
from chitram.images.domain.errors import CorruptImage
from chitram.images.domain.image import ImageFormat

_CRITICAL = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND"})
# Some writers put JPEG's prefix in front of the TIFF block.
_EXIF = b"Exif\0\0"


def examine(data: Source, *, max_pixels: int, keep_metadata: bool) -> Found:
    """Return what to store of a PNG.

    Raises `ImageTooLarge` from its header, before anything is inflated, and `CorruptImage`.
    """
    header, found = _read(data, max_pixels)
    colours = _check_critical(found, header)
    with memoryview(data) as view:
        decode((view[each.start + 8 : each.end - 4] for each in found if each.type == b"IDAT"), header)
    orientation = _orientation(data, found)
    width, height = displayed(header.width, header.height, orientation)
    if keep_metadata:
        refuse_traps(data, found, header, colours)
        plan: list[Piece] = [Slice(0, len(data))]
    else:
        plan = list(_stripped(data, found, header, colours, orientation))
    return Found(ImageFormat.PNG, width, height, merged(data, plan))


def shape(data: Source) -> Shape:
    """Read size and orientation without inflating anything; raises `CorruptImage`."""
    header, found = _read(data, sys.maxsize)
    return Shape(ImageFormat.PNG, header.width, header.height, _orientation(data, found))


def _read(data: Source, max_pixels: int) -> tuple[Header, list[Chunk]]:
    """Walk through the file up to its IEND."""
    walk = chunks(data)
    first = next(walk)
    header = read_header(data, first)
    if header.width * header.height > max_pixels:
        raise too_large(header.width, header.height, max_pixels)
    return header, [first, *walk]


def _check_critical(found: list[Chunk], header: Header) -> int:
    """Check the chunks that decoding depends on and their order (5.6); return the palette's entries."""
    kinds = [each.type for each in found]
    for chunk in found:
        if chunk.is_critical and chunk.type not in _CRITICAL:
            raise CorruptImage(f"The PNG has a chunk {chunk.type.decode()} that no reader knows.")
    images = kinds.count(b"IDAT")
    first = kinds.index(b"IDAT") if images else 0
    if not images or kinds[first : first + images].count(b"IDAT") != images:
        raise CorruptImage("The PNG's image data is missing or in several places.")
    palettes = [each for each in found[:first] if each.type == b"PLTE"]
    if kinds.count(b"IHDR") != 1 or kinds.count(b"PLTE") != len(palettes) or len(palettes) > 1:
        raise CorruptImage("The PNG's chunks are in a wrong order.")
    if found[-1].length:
        raise CorruptImage("The PNG's last chunk is not empty.")
    entries, odd = divmod(palettes[0].length, 3) if palettes else (0, 0)
    if odd or entries > 1 << 8 or (header.colour_type == PALETTE and not entries):
        raise CorruptImage("The PNG's palette is missing or malformed.")
    return entries


def _orientation(data: Source, found: list[Chunk]) -> int:
    for chunk in found:
        if chunk.type == b"eXIf":
            return read_orientation(chunk.body(data).removeprefix(_EXIF))
    return 1


def _stripped(
    data: Source, found: list[Chunk], header: Header, colours: int, orientation: int
) -> Iterator[Piece]:
    """Plan the file without what may tell about people and places.

    Of several ancillary chunks of a kind the first counts, as in libpng; all belong before IDAT.
    """
    yield Slice(0, SIGNATURE_BYTES)
    seen: set[bytes] = set()
    for chunk in found:
        piece = Slice(chunk.start, chunk.end - chunk.start)
        if chunk.type == b"IDAT" and b"IDAT" not in seen and orientation > 1:
            yield _chunk(b"eXIf", minimal_tiff(orientation))
        if chunk.is_critical or (not seen & {chunk.type, b"IDAT"} and is_kept(data, chunk, header, colours)):
            yield piece
            seen.add(chunk.type)


def _chunk(kind: bytes, body: bytes) -> bytes:
    checked = kind + body
    return len(body).to_bytes(4, "big") + checked + zlib.crc32(checked).to_bytes(4, "big")

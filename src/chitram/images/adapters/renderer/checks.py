"""What the pool holds a child's answer against: a child may have been taken over by an image.

Each rendition has to be a whole file of its format and of the right size, without anything beside
the picture that could be taken for something else.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from chitram.images.adapters.children.frames import ProtocolError
from chitram.images.adapters.decoder import jpeg_markers, png_chunks
from chitram.images.adapters.decoder.source import Shape
from chitram.images.adapters.renderer.protocol import Encoded, Work
from chitram.images.domain.errors import CorruptImage
from chitram.images.domain.rendition import (
    OPTIMISED_KINDS,
    OPTIMISED_MAX_PIXELS,
    THUMBNAIL_SIDES,
    RenditionFormat,
    RenditionKind,
    fitted,
)

# Raw samples of the largest thumbnail with transparency take 1.4 MB.
MAX_THUMBNAIL_BYTES = 2 << 20
_PNG_CHUNKS = frozenset(
    {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"iCCP", b"gAMA", b"cHRM", b"sRGB", b"cICP"}
)
_JPEG_SEGMENTS = frozenset({jpeg_markers.APP0, jpeg_markers.APP2, jpeg_markers.APP14})
_WEBP_CHUNKS = frozenset({b"VP8X", b"ICCP", b"ALPH", b"VP8 ", b"VP8L"})
_THUMBNAIL_FORMATS = (RenditionFormat.JPEG, RenditionFormat.PNG)


def most_bytes(work: Work, original_bytes: int) -> int:
    """How long a child's answer may be."""
    made = 3 * MAX_THUMBNAIL_BYTES if work is Work.THUMBNAILS else 2 * original_bytes
    return made + 4096


def check(work: Work, made: Sequence[Encoded], shape: Shape, original_bytes: int) -> None:
    """Raises `ProtocolError` unless `made` is what `work` on such an original can give."""
    kinds = [each.kind for each in made]
    if work is Work.THUMBNAILS:
        right = kinds == list(THUMBNAIL_SIDES)
    else:
        right = kinds == [each for each in OPTIMISED_KINDS if each in kinds]
    if not right:
        raise ProtocolError(f"{kinds} were not asked for")
    for each in made:
        if each.format not in _formats(each.kind, shape):
            raise ProtocolError(f"{each.kind} came as {each.format}")
        if (each.width, each.height) != _size(each.kind, shape):
            raise ProtocolError(f"{each.kind} has {each.width} x {each.height} pixels")
        limit = MAX_THUMBNAIL_BYTES if each.kind in THUMBNAIL_SIDES else original_bytes - 1
        if len(each.content) > limit:
            raise ProtocolError(f"{each.kind} has {len(each.content)} bytes")
        if size_of(each.content, each.format) != (each.width, each.height):
            raise ProtocolError(f"{each.kind} is not of the size that was said")


def _formats(kind: RenditionKind, shape: Shape) -> tuple[RenditionFormat, ...]:
    if kind in THUMBNAIL_SIDES:
        return _THUMBNAIL_FORMATS
    if kind is RenditionKind.OPTIMISED_WEBP:
        return (RenditionFormat.WEBP,)
    return (RenditionFormat(shape.format.value),)


def _size(kind: RenditionKind, shape: Shape) -> tuple[int, int]:
    side = THUMBNAIL_SIDES.get(kind, OPTIMISED_MAX_PIXELS)
    return fitted(*shape.displayed, side)


def size_of(content: bytes, form: RenditionFormat) -> tuple[int, int]:
    """Read width and height of a whole file; raises `ProtocolError` when it is none of `form`."""
    readers = {RenditionFormat.JPEG: _jpeg, RenditionFormat.PNG: _png, RenditionFormat.WEBP: _webp}
    try:
        return readers[form](content)
    except (CorruptImage, struct.error, IndexError) as error:
        raise ProtocolError(f"that is no {form}: {error}") from error


def _jpeg(content: bytes) -> tuple[int, int]:
    if content[:3] != b"\xff\xd8\xff":
        raise ProtocolError("the signature is not that of JPEG")
    frame: jpeg_markers.Frame | None = None
    end = 0
    for segment in jpeg_markers.segments(content):
        if jpeg_markers.is_metadata(segment.marker) and segment.marker not in _JPEG_SEGMENTS:
            raise ProtocolError("the JPEG has metadata")
        if jpeg_markers.is_frame(segment.marker):
            if frame is not None:
                raise ProtocolError("the JPEG has two frames")
            frame = jpeg_markers.read_frame(content, segment)
        end = segment.end
    if frame is None or end != len(content):
        raise ProtocolError("the JPEG has no frame, or something behind its end")
    return frame.width, frame.height


def _png(content: bytes) -> tuple[int, int]:
    if content[:8] != b"\x89PNG\r\n\x1a\n":
        raise ProtocolError("the signature is not that of PNG")
    found = list(png_chunks.chunks(content))
    header = png_chunks.read_header(content, found[0])
    if found[-1].end != len(content) or not _PNG_CHUNKS.issuperset(each.type for each in found):
        raise ProtocolError("the PNG has metadata, or something behind its end")
    return header.width, header.height


def _webp(content: bytes) -> tuple[int, int]:
    """Walk through the chunks of a RIFF file that has one picture (RFC 9649, 2.4 to 2.7)."""
    if content[:4] + content[8:12] != b"RIFFWEBP" or _u32(content, 4) != len(content) - 8:
        raise ProtocolError("the signature is not that of WebP")
    offset, sizes, pictures = 12, set[tuple[int, int]](), 0
    while offset < len(content):
        kind, length = content[offset : offset + 4], _u32(content, offset + 4)
        body = content[offset + 8 : offset + 8 + length]
        if kind not in _WEBP_CHUNKS or len(body) != length:
            raise ProtocolError("the WebP has metadata or is truncated")
        if read := _WEBP_SIZES.get(kind):
            sizes.add(read(body))
            pictures += kind != b"VP8X"
        offset += 8 + length + length % 2
    if len(sizes) != 1 or pictures != 1:
        raise ProtocolError("the WebP has not one picture of one size")
    return sizes.pop()


def _u32(content: bytes, offset: int) -> int:
    number: int = struct.unpack_from("<I", content, offset)[0]
    return number


def _canvas_size(body: bytes) -> tuple[int, int]:
    return int.from_bytes(body[4:7], "little") + 1, int.from_bytes(body[7:10], "little") + 1


def _lossy_size(body: bytes) -> tuple[int, int]:
    if body[3:6] != b"\x9d\x01\x2a":
        raise ProtocolError("the WebP has no key frame")
    width, height = struct.unpack_from("<HH", body, 6)
    return width & _WEBP_SIDE, height & _WEBP_SIDE


def _lossless_size(body: bytes) -> tuple[int, int]:
    if body[:1] != b"\x2f":
        raise ProtocolError("the WebP has no lossless picture")
    bits = _u32(body, 1)
    return (bits & _WEBP_SIDE) + 1, (bits >> 14 & _WEBP_SIDE) + 1


_WEBP_SIDE = (1 << 14) - 1
_WEBP_SIZES = {b"VP8X": _canvas_size, b"VP8 ": _lossy_size, b"VP8L": _lossless_size}

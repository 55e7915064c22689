"""JPEG: prove the image whole, plan what to keep of the file."""

from __future__ import annotations

from collections.abc import Iterator

from chitram.images.adapters.decoder.exif import displayed, minimal_tiff, read_orientation
from chitram.images.adapters.decoder.jpeg_decode import decode
from chitram.images.adapters.decoder.jpeg_markers import (
    APP0,
    APP1,
    APP2,
    APP14,
    SOS,
    Frame,
    ScanLedger,
    Segment,
    is_frame,
    is_metadata,
    leading_segments,
    payload,
    read_frame,
    segments,
)
from chitram.images.adapters.decoder.refusals import too_large
from chitram.images.adapters.decoder.source import Found, Shape, Source, merged
from chitram.images.domain.content import Piece, Slice
from chitram.images.domain.errors import CorruptImage
from chitram.images.domain.image import ImageFormat

_SOI = Slice(0, 2)
_EXIF = b"Exif\0\0"
_ICC = b"ICC_PROFILE\0"
_JFIF = b"JFIF\0"
# After the name: version, density unit, two densities (T.871, 10.1); the size of the thumbnail is next.
_JFIF_BYTES = len(_JFIF) + 7
_ADOBE = b"Adobe"
# After the name: version, two flags, transform (T.872, 6.5.3).
_ADOBE_BYTES = len(_ADOBE) + 7


def examine(data: Source, *, max_pixels: int, keep_metadata: bool) -> Found:
    """Return what to store of a JPEG.

    Raises `ImageTooLarge` from its header, before anything is decoded, and `CorruptImage`.
    """
    found, frame = _read(data, max_pixels)
    _decode(data, found, frame)
    leading = _before_first_scan(found)
    orientation = _orientation(data, leading)
    width, height = displayed(frame.width, frame.height, orientation)
    plan = [Slice(0, len(data))] if keep_metadata else _stripped(data, found, leading, orientation)
    return Found(ImageFormat.JPEG, width, height, merged(data, plan))


def shape(data: Source) -> Shape:
    """Read size and orientation from what is before the first scan; raises `CorruptImage`."""
    leading = list(leading_segments(data))
    frame = next((each for each in leading if is_frame(each.marker)), None)
    if frame is None:
        raise CorruptImage("The JPEG has no frame header.")
    header = read_frame(data, frame)
    return Shape(ImageFormat.JPEG, header.width, header.height, _orientation(data, leading))


def _read(data: Source, max_pixels: int) -> tuple[list[Segment], Frame]:
    """Walk through the file up to its EOI."""
    found: list[Segment] = []
    frame: Frame | None = None
    scans = ScanLedger()
    for segment in segments(data):
        if is_frame(segment.marker):
            if frame is not None:
                raise CorruptImage("The JPEG has two frame headers.")
            frame = read_frame(data, segment)
            if frame.width * frame.height > max_pixels:
                raise too_large(frame.width, frame.height, max_pixels)
        elif segment.marker == SOS:
            scans.add(data, segment)
        found.append(segment)
    if frame is None:
        raise CorruptImage("The JPEG has no frame header.")
    scans.check(frame)
    return found, frame


def _decode(data: Source, found: list[Segment], frame: Frame) -> None:
    """Decode the image without its metadata.

    libjpeg reports only the first of its warnings, so none may come from a segment that is dropped.
    """
    with memoryview(data) as view:
        parts = [view[each.start : each.end] for each in found if not is_metadata(each.marker)]
        stream = b"".join([view[:2], *parts])
        del parts
    decode(stream, frame)


def _before_first_scan(found: list[Segment]) -> list[Segment]:
    first = next(index for index, each in enumerate(found) if each.marker == SOS)
    return found[:first]


def _orientation(data: Source, leading: list[Segment]) -> int:
    for segment in leading:
        if segment.marker == APP1 and (body := payload(data, segment)).startswith(_EXIF):
            return read_orientation(body[len(_EXIF) :])
    return 1


def _stripped(data: Source, found: list[Segment], leading: list[Segment], orientation: int) -> list[Piece]:
    """Plan the file without what may tell about people and places.

    Orientation goes where Exif has to stand: first, or after JFIF, which claims the first place too.
    """
    kept = dict(_kept_metadata(data, leading))
    plan: list[Piece] = []
    for segment in found:
        if not is_metadata(segment.marker):
            plan.append(Slice(segment.start, segment.end - segment.start))
        elif segment in kept:
            plan.append(kept[segment])
    if orientation > 1:
        first = plan[0]
        after_jfif = isinstance(first, bytes) and first[4:].startswith(_JFIF)
        plan.insert(1 if after_jfif else 0, _segment(APP1, _EXIF + minimal_tiff(orientation)))
    return [_SOI, *plan]


def _kept_metadata(data: Source, leading: list[Segment]) -> Iterator[tuple[Segment, Piece]]:
    """Yield the segments that decoders need to show the right colours and shape.

    Of several Adobe markers the last counts, as in libjpeg.
    """
    jfif: Segment | None = None
    adobe: Segment | None = None
    for segment in leading:
        head = data[segment.start + 4 : min(segment.end, segment.start + 4 + len(_ICC))]
        if segment.marker == APP2 and head == _ICC:
            yield segment, Slice(segment.start, segment.end - segment.start)
        elif segment.marker == APP0 and head.startswith(_JFIF):
            jfif = jfif or segment
        elif segment.marker == APP14 and head.startswith(_ADOBE):
            adobe = segment
    if jfif and len(body := payload(data, jfif)) >= _JFIF_BYTES + 2:
        yield jfif, _segment(APP0, body[:_JFIF_BYTES] + b"\0\0")
    if adobe and len(body := payload(data, adobe)) >= _ADOBE_BYTES:
        yield adobe, _segment(APP14, body[:_ADOBE_BYTES])


def _segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2, "big") + body

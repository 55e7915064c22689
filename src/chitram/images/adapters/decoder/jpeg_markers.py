"""The marker structure of JPEG (ITU-T T.81, annex B), read without decoding."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from chitram.images.adapters.decoder.source import Source
from chitram.images.domain.errors import CorruptImage

SOI, EOI, SOS, COM = 0xD8, 0xD9, 0xDA, 0xFE
APP0, APP1, APP2, APP14, APP15 = 0xE0, 0xE1, 0xE2, 0xEE, 0xEF
DNL = 0xDC
# Sequential and progressive frames, Huffman or arithmetic coded.
_FRAMES = frozenset({0xC0, 0xC1, 0xC2, 0xC9, 0xCA})
_OTHER_FRAMES = frozenset({0xC3, 0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF})
# DHT, DAC, DQT, DNL, DRI.
_TABLES = frozenset({0xC4, 0xCC, 0xDB, DNL, 0xDD})

# libjpeg's script for four components has 18. Each costs a walk over all blocks, however few its
# bytes: 500, libjpeg-turbo's own limit, are 15 s of a processor for 200 KB at 50 megapixels.
MAX_SCANS = 100
# 255 segments of ICC profile, as many of extended XMP, and the scans with their tables.
MAX_SEGMENTS = 10_000
# Some cameras miscount the length of a segment by a few bytes.
MAX_STRAY_BYTES = 8

# Any marker but a restart, which belongs to the entropy-coded data around it, as does a stuffed zero.
_NEXT_MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")
_FRAME_HEADER = struct.Struct(">BHHB")
# Length, count, two bytes for each of four components, spectral selection and approximation (B.2.3).
_MAX_SCAN_HEADER_BYTES = 14


class Segment(NamedTuple):
    """A marker with what belongs to it: `start` is at its 0xFF, a scan ends before the next marker."""

    marker: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Frame:
    """The frame header: size in pixels as coded, component ids and whether CMYK or YCCK."""

    width: int
    height: int
    components: tuple[int, ...]

    @property
    def is_cmyk(self) -> bool:
        """Whether there are four inks rather than grey or three colours."""
        return len(self.components) == 4  # noqa: PLR2004 - cyan, magenta, yellow, black


def is_frame(marker: int) -> bool:
    """Whether a marker starts a frame; raises `CorruptImage` for one that is not supported."""
    if marker in _OTHER_FRAMES:
        raise CorruptImage(f"Lossless and hierarchical JPEG are not supported (process {marker - 0xC0}).")
    return marker in _FRAMES


def is_metadata(marker: int) -> bool:
    """Whether a marker's segment says something about the image but takes no part in its decoding."""
    return APP0 <= marker <= APP15 or marker == COM


def payload(data: Source, segment: Segment) -> bytes:
    """Return what follows a segment's marker and length."""
    return data[segment.start + 4 : segment.end]


def segments(data: Source) -> Iterator[Segment]:
    """Yield every segment from after SOI to EOI; raises `CorruptImage` where the structure breaks."""
    offset = 2
    for _ in range(MAX_SEGMENTS):
        segment = _segment_at(data, offset)
        if segment.marker == SOS:
            segment = segment._replace(end=_end_of_scan(data, segment.end))
        yield segment
        if segment.marker == EOI:
            return
        offset = segment.end
    raise CorruptImage("The JPEG has too many segments.")


def leading_segments(data: Source) -> Iterator[Segment]:
    """Yield every segment from after SOI to the first scan, of which nothing is read."""
    offset = 2
    for _ in range(MAX_SEGMENTS):
        segment = _segment_at(data, offset)
        if segment.marker in {SOS, EOI}:
            return
        yield segment
        offset = segment.end
    raise CorruptImage("The JPEG has too many segments.")


def _segment_at(data: Source, offset: int) -> Segment:
    match = _NEXT_MARKER.search(data, offset)
    if match is None:
        raise CorruptImage("The JPEG is truncated: it has no end-of-image marker.")
    marker, start = match[1][0], match.start()
    _check_gap(data, offset, start)
    if marker == EOI:
        return Segment(marker, start, start + 2)
    if not (is_frame(marker) or is_metadata(marker) or marker in _TABLES or marker == SOS):
        raise CorruptImage(f"The JPEG has a marker 0x{marker:02X} where none may stand.")
    length = int.from_bytes(data[start + 2 : start + 4], "big")
    end = start + 2 + length
    if length < 2 or end > len(data):  # noqa: PLR2004 - the length counts itself
        raise CorruptImage("The JPEG is truncated or a segment's length is wrong.")
    return Segment(marker, start, end)


def _end_of_scan(data: Source, offset: int) -> int:
    following = _NEXT_MARKER.search(data, offset)
    if following is None:
        raise CorruptImage("The JPEG is truncated: it has no end-of-image marker.")
    return following.start()


def _check_gap(data: Source, offset: int, start: int) -> None:
    """Any number of 0xFF may stand before a marker (B.1.1.2), but little else."""
    if start > offset and len(data[offset:start].strip(b"\xff")) > MAX_STRAY_BYTES:
        raise CorruptImage("The JPEG has stray bytes between its segments.")


def read_frame(data: Source, segment: Segment) -> Frame:
    """Read a frame header; raises `CorruptImage` when it cannot be that of an image we can decode."""
    body = payload(data, segment)
    if len(body) < _FRAME_HEADER.size:
        raise CorruptImage("The JPEG has a malformed frame header.")
    precision, height, width, count = _FRAME_HEADER.unpack_from(body)
    if precision != 8:  # noqa: PLR2004 - bits
        raise CorruptImage(f"JPEG with {precision} bits per sample is not supported.")
    if height == 0:
        raise CorruptImage("JPEG that tells its height only after the first scan is not supported.")
    components = tuple(body[_FRAME_HEADER.size :: 3])
    if width == 0 or count not in {1, 3, 4} or len(body) != _FRAME_HEADER.size + 3 * count:
        raise CorruptImage("The JPEG has a malformed frame header.")
    return Frame(width, height, components)


class ScanLedger:
    """Which components have been sent, and in how many scans."""

    def __init__(self) -> None:
        self._count = 0
        self._sent: set[int] = set()

    def add(self, data: Source, segment: Segment) -> None:
        """Enter a scan; raises `CorruptImage` when it is malformed or one too many."""
        self._count += 1
        if self._count > MAX_SCANS:
            raise CorruptImage(f"The JPEG has more than {MAX_SCANS} scans.")
        header = data[segment.start + 2 : min(segment.end, segment.start + 2 + _MAX_SCAN_HEADER_BYTES)]
        count = header[2] if len(header) > 2 else 0  # noqa: PLR2004 - the length is before it
        length = 6 + 2 * count
        if not 1 <= count <= 4 or int.from_bytes(header[:2], "big") != length:  # noqa: PLR2004 - B.2.3
            raise CorruptImage("The JPEG has a malformed scan header.")
        start, _, approximation = header[3 + 2 * count : length]
        is_first_of_lowest = start == 0 and approximation >> 4 == 0
        if is_first_of_lowest:
            self._sent.update(header[3 : 3 + 2 * count : 2])

    def check(self, frame: Frame) -> None:
        """Raises `CorruptImage` unless every component came, at least in its lowest frequency.

        Later refinements may be missing: T.81 does not ask for all of them, nor does libjpeg.
        """
        if not self._sent.issuperset(frame.components):
            raise CorruptImage("The JPEG is incomplete: a colour component has no data.")

"""Samples of a PNG of extreme shape, in memory that grows with its pixels alone.

Pillow has a pointer for every row of a picture, and two rows as they are coded: of a PNG of one column
or row that is more than its pixels. Here a few rows, or a part of one, are decoded at a time.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from PIL import Image

from chitram.images.adapters.decoder.png_chunks import GREY, Header, chunks, read_header
from chitram.images.adapters.decoder.png_decode import inflated, passes
from chitram.images.adapters.decoder.source import Source

Bytes = npt.NDArray[np.uint8]
Samples = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]

# Bytes of filtered rows that are decoded at a time.
_BLOCK = 1 << 20
# What Pillow has to hold beside the pixels, from which on it is worth doing without.
_MOST_BESIDE = 32 << 20
_POINTER = 8
# Filters work on every byte of a pixel by itself, so any picture of as many bytes each will do.
_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
_BYTE = 8
_UP, _AVERAGE, _PAETH = 2, 3, 4


def is_extreme(size: tuple[int, int]) -> bool:
    """Whether Pillow would need much memory beside the pixels, of up to eight bytes."""
    width, height = size
    return _POINTER * (height + 2 * width) > _MOST_BESIDE


def samples(data: Source) -> Samples:
    """Decode a PNG to an array of height, width and, where there are several, channels.

    Samples of less than eight bits keep their values, which is also what a palette's numbers are.
    Colours of sixteen bits lose the lower eight, as with Pillow; grey of sixteen keeps all.

    Raises `ValueError`, `zlib.error` and `CorruptImage`.
    """
    found = list(chunks(data))
    header = read_header(data, found[0])
    layout = _Layout(header)
    canvas = np.empty((header.height, header.width, layout.kept), np.uint8)
    with memoryview(data) as view:
        parts = (view[each.start + 8 : each.end - 4] for each in found if each.type == b"IDAT")
        stream = _Stream(inflated(parts))
        for x, y, step_x, step_y, columns, rows in passes(header):
            shown = canvas[y::step_y, x::step_x]
            for top, left, part in _parts(stream, layout, columns, rows):
                shown[top : top + part.shape[0], left : left + part.shape[1]] = part
    if layout.is_deep_grey:
        return canvas.view(">u2")[:, :, 0].astype(np.uint16)
    return canvas[:, :, 0] if layout.kept == 1 else canvas


class _Layout:
    """How pixels are coded, and how many bytes of each are kept."""

    def __init__(self, header: Header) -> None:
        self.bits = header.bit_depth * header.channels
        self.is_deep_grey = header.bit_depth == 2 * _BYTE and header.colour_type == GREY
        self.is_packed = self.bits < _BYTE
        # The second byte of each sample is left out before anything is decoded.
        self.drops = header.bit_depth == 2 * _BYTE and not self.is_deep_grey
        self.coded = max(1, self.bits // _BYTE)
        self.kept = self.coded // 2 if self.drops else self.coded

    def row_bytes(self, columns: int) -> int:
        return (columns * self.bits + _BYTE - 1) // _BYTE

    def thinned(self, filtered: Bytes) -> Bytes:
        """Leave out what is not kept, along the last axis."""
        return filtered[..., ::2] if self.drops else filtered

    def unpacked(self, decoded: Bytes, columns: int) -> Bytes:
        """Make samples of rows of bytes: height, width, bytes kept."""
        if not self.is_packed:
            return decoded
        shifts = np.arange(_BYTE - self.bits, -1, -self.bits, dtype=np.uint8)
        values: Bytes = decoded[:, :, 0, None] >> shifts & np.uint8((1 << self.bits) - 1)
        return values.reshape(decoded.shape[0], -1, 1)[:, :columns]


class _Stream:
    """Takes so many bytes at a time from pieces of any length."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""

    def take(self, count: int) -> Bytes:
        taken, missing = [], count
        while missing:
            if not self._rest:
                self._rest = next(self._pieces, None) or self._none_left()
            piece, self._rest = self._rest[:missing], self._rest[missing:]
            taken.append(piece)
            missing -= len(piece)
        return np.frombuffer(b"".join(taken), np.uint8)

    def _none_left(self) -> bytes:
        for piece in self._pieces:
            if piece:
                return piece
        raise ValueError("rows are missing")


def _parts(stream: _Stream, layout: _Layout, columns: int, rows: int) -> Iterator[tuple[int, int, Bytes]]:
    """Yield what is decoded of one pass: first row, first column, samples."""
    if layout.row_bytes(columns) <= _BLOCK:
        yield from _bands(stream, layout, columns, rows)
    else:
        yield from _segments(stream, layout, columns, rows)


def _bands(stream: _Stream, layout: _Layout, columns: int, rows: int) -> Iterator[tuple[int, int, Bytes]]:
    """Decode some rows at a time, each time with the row above them."""
    coded, step = layout.row_bytes(columns), max(1, _BLOCK // (1 + layout.row_bytes(columns)))
    above = layout.thinned(np.zeros(coded, np.uint8))
    for top in range(0, rows, step):
        count = min(step, rows - top)
        filtered = stream.take(count * (1 + coded)).reshape(count, 1 + coded)
        decoded = _unfiltered(above, filtered[:, 0], layout.thinned(filtered[:, 1:]), layout.kept)
        above = decoded[-1].ravel()
        yield top, 0, layout.unpacked(decoded, columns)


def _segments(stream: _Stream, layout: _Layout, columns: int, rows: int) -> Iterator[tuple[int, int, Bytes]]:
    """Decode a part of one row at a time, each time with the pixel left of it."""
    coded, step = layout.row_bytes(columns), _BLOCK // layout.coded * layout.coded
    kept = layout.kept
    above = np.zeros(coded * kept // layout.coded, np.uint8)
    for top in range(rows):
        number = stream.take(1)
        left, corner = np.zeros((2, kept), np.uint8)
        for start in range(0, coded, step):
            filtered = layout.thinned(stream.take(min(step, coded - start)))
            place = start * kept // layout.coded
            over = above[place : place + filtered.size]
            first = _first(int(number[0]), left, corner)
            decoded = _unfiltered(
                np.concatenate([corner, over]),
                number,
                np.concatenate([first, filtered])[None],
                kept,
            )[:, 1:]
            left, corner = decoded[0, -1], over[-kept:].copy()
            if rows > 1:
                over[:] = decoded.ravel()
            column = start * _BYTE // layout.bits
            yield top, column, layout.unpacked(decoded, columns - column)


def _first(number: int, left: Bytes, corner: Bytes) -> Bytes:
    """Filter a pixel that begins a row, so that it comes out as `left`; `corner` is above it."""
    if number in {_UP, _PAETH}:
        return left - corner
    return left - corner // 2 if number == _AVERAGE else left


def _unfiltered(above: Bytes, numbers: Bytes, filtered: Bytes, kept: int) -> Bytes:
    """Undo the filters of rows that lie under `above`: height, width, bytes of a pixel."""
    rows = np.zeros((1 + filtered.shape[0], 1 + filtered.shape[1]), np.uint8)
    rows[0, 1:] = above
    rows[1:, 0] = numbers
    rows[1:, 1:] = filtered
    size = (filtered.shape[1] // kept, rows.shape[0])
    image = Image.frombytes(_MODES[kept], size, zlib.compress(rows.tobytes(), 0), "zip", _MODES[kept], 0)
    decoded: Bytes = np.asarray(image).reshape(size[1], size[0], kept)
    return decoded[1:]

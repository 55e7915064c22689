"""Real files with damage of all kinds end in an inspection or in one of the stated refusals."""

from __future__ import annotations

import io
import random
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from structlog.testing import capture_logs

from chitram.images.adapters.decoder.pool import DecoderPool
from chitram.images.domain.content import Inspection
from chitram.images.domain.errors import CorruptImage, ImageTooLarge, InvalidFileFormat
from tests.decoder.conftest import Put, Upload
from tests.support import photos

_ROUNDS = 60
_CORPUS = (
    photos.jpeg(48, 36),
    photos.jpeg(48, 36, progressive=True, icc_profile=photos.icc_profile()),
    photos.with_metadata(photos.jpeg(48, 36, restart_marker_blocks=2), 6),
    photos.JPEGS["cmyk"](),
    photos.JPEGS["odd_subsampling"](),
    photos.png(4, 3, interlace=True),
    photos.png_with_colours(),
    photos.png_with_metadata(6),
)


def _mutated(data: bytes, chance: random.Random) -> bytes:
    """Change bytes, cut, repeat, move or insert; keep a PNG's checksums right half of the time."""
    for _ in range(chance.randint(1, 4)):
        start, end = sorted(chance.choices(range(len(data)), k=2))
        end = min(end, start + chance.choice((1, 4, 60, 4000)))
        piece = data[start:end]
        data = (
            chance.choice(
                (
                    data[:start] + bytes([chance.randrange(256)]) + data[start + 1 :],
                    data[:start] + bytes([data[start] ^ 1 << chance.randrange(8)]) + data[start + 1 :],
                    data[:start] + chance.choice((b"\xff", b"\0\0\0\0", b"\xff\xff")) + data[start + 1 :],
                    data[:start] + data[end:],
                    data[:end] + piece + data[end:],
                    data[:start] + piece[::-1] + data[end:],
                    data[:start] + chance.randbytes(len(piece)) + data[end:],
                    data[:start],
                )
            )
            or b"\0"
        )
    return _with_right_checksums(data) if chance.random() < 0.5 else data


def _with_right_checksums(data: bytes) -> bytes:
    if not data.startswith(photos.PNG_SIGNATURE):
        return data
    made, offset = bytearray(data), 8
    while offset + 12 <= len(made):
        (length,) = struct.unpack_from(">I", made, offset)
        end = offset + 8 + length
        if end + 4 > len(made):
            break
        struct.pack_into(">I", made, end, zlib.crc32(made[offset + 4 : end]))
        offset = end + 4
    return bytes(made)


@pytest.mark.parametrize("seed", range(len(_CORPUS)))
async def test_damage_ends_in_an_inspection_that_holds_or_in_a_refusal(
    pool: DecoderPool, upload: Upload, stored: Put, seed: int
) -> None:
    chance = random.Random(seed)  # noqa: S311 - the same damage each time
    with capture_logs() as complaints:
        for _ in range(_ROUNDS):
            data = _mutated(_CORPUS[seed], chance)
            try:
                found = await pool.inspect(upload(data))
            except (InvalidFileFormat, ImageTooLarge, CorruptImage):
                continue
            await _check(pool, upload, stored(data, found), found)
    assert complaints == [], "no damage may cost a decoder or surprise it"


async def _check(pool: DecoderPool, upload: Upload, kept: bytes, found: Inspection) -> None:
    """What is stored is accepted again as it is, and others can read it."""
    again = await pool.inspect(upload(kept))
    assert (again.sha256, again.width, again.height) == (found.sha256, found.width, found.height)
    with Image.open(io.BytesIO(kept)) as image:
        assert np.asarray(image).size
        sideways = image.getexif().get(0x0112, 1) >= 5
        assert (found.width, found.height) == (image.size[::-1] if sideways else image.size)

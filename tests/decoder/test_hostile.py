"""Files that are broken or mean harm end in the one error that says what is wrong."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from structlog.testing import capture_logs

from chitram.images.adapters.decoder.pool import DecoderPool
from chitram.images.domain.errors import CorruptImage, ImageTooLarge, InvalidFileFormat
from chitram.kernel.errors import ChitramError, StorageUnavailable
from tests.decoder.conftest import NewPool, Upload
from tests.support import photos

_every_hostile_file = pytest.mark.parametrize(
    ("build", "code"), photos.HOSTILE.values(), ids=photos.HOSTILE.keys()
)


@_every_hostile_file
async def test_is_refused_with_its_code_and_costs_no_decoder(
    pool: DecoderPool, upload: Upload, build: Callable[[], bytes], code: str
) -> None:
    with capture_logs() as complaints, pytest.raises(ChitramError) as refused:
        await pool.inspect(upload(build()))
    assert refused.value.code == code
    assert complaints == []


@_every_hostile_file
async def test_is_refused_by_the_policy_keep_too(
    keeping_pool: DecoderPool, upload: Upload, build: Callable[[], bytes], code: str
) -> None:
    with pytest.raises(ChitramError) as refused:
        await keeping_pool.inspect(upload(build()))
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("data", "detected"),
    [
        (photos.SVG, "image/svg+xml"),
        (b'<?xml version="1.0"?>\n' + photos.SVG, "image/svg+xml"),
        (b"", "empty"),
        (b"\xff\xd8", "unknown"),
        (photos.encode(photos.photo(61, 47), "GIF"), "image/gif"),
        (b"nothing in particular", "unknown"),
    ],
)
async def test_a_refused_format_is_named_beside_what_is_accepted(
    pool: DecoderPool, upload: Upload, data: bytes, detected: str
) -> None:
    with pytest.raises(InvalidFileFormat) as refused:
        await pool.inspect(upload(data))
    assert refused.value.details == {"detected": detected, "accepted": ["image/jpeg", "image/png"]}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("jpeg_of_12_bits", "12 bits per sample"),
        ("lossless_jpeg", "Lossless"),
        ("jpeg_without_height", "height"),
        ("jpeg_without_its_first_scan", "component has no data"),
        ("half_a_jpeg", "truncated"),
        ("half_a_jpeg_with_an_end", "premature end"),
        ("half_a_png", "truncated"),
        ("png_with_a_wrong_checksum", "checksum in its IDAT chunk"),
        ("png_with_rows_missing", "rows are missing"),
    ],
)
async def test_a_corrupt_image_is_told_what_is_wrong_with_it(
    pool: DecoderPool, upload: Upload, name: str, words: str
) -> None:
    build, _ = photos.HOSTILE[name]
    with pytest.raises(CorruptImage, match=words):
        await pool.inspect(upload(build()))


async def test_a_format_that_is_not_allowed_is_refused(new_pool: NewPool, upload: Upload) -> None:
    pool = await new_pool(allowed_formats=("png",))
    assert (await pool.inspect(upload(photos.png()))).format == "png"
    with pytest.raises(InvalidFileFormat) as refused:
        await pool.inspect(upload(photos.jpeg()))
    assert refused.value.details == {"detected": "image/jpeg", "accepted": ["image/png"]}


@pytest.mark.parametrize("build", [photos.jpeg, photos.JPEGS["progressive"], photos.PNGS["pillow"]])
async def test_pixels_are_counted_to_the_last(
    new_pool: NewPool, upload: Upload, build: Callable[[], bytes]
) -> None:
    assert (await (await new_pool(max_pixels=160 * 120)).inspect(upload(build()))).width == 160
    with pytest.raises(ImageTooLarge) as refused:
        await (await new_pool(max_pixels=160 * 120 - 1)).inspect(upload(build()))
    assert refused.value.details == {"width": 160, "height": 120, "max_pixels": 160 * 120 - 1}


@pytest.mark.parametrize("end", range(0, 8000, 97))
async def test_no_part_of_an_image_passes_for_the_whole(pool: DecoderPool, upload: Upload, end: int) -> None:
    for whole in (photos.jpeg(), photos.JPEGS["progressive"](), photos.png()):
        part = whole[: end % len(whole)]
        with pytest.raises((CorruptImage, InvalidFileFormat)):
            await pool.inspect(upload(part))
        with pytest.raises((CorruptImage, InvalidFileFormat)):
            await pool.inspect(upload(part + (b"\xff\xd9" if whole[:1] == b"\xff" else whole[-12:])))


@pytest.mark.parametrize("kind", [b"iCCP", b"zTXt", b"iTXt"])
async def test_the_policy_keep_refuses_metadata_that_inflates_without_end(
    keeping_pool: DecoderPool, upload: Upload, kind: bytes
) -> None:
    data = photos.bomb(kind)
    if kind == b"iTXt":
        data = data.replace(b"iTXtname\0\0", b"iTXtname\0\1\0\0\0")
        data = photos.with_chunks(photos.png(), photos.chunk(kind, data[41 : -12 - (len(photos.png()) - 45)]))
    with pytest.raises(CorruptImage, match="inflates to more than"):
        await keeping_pool.inspect(upload(data))


async def test_the_policy_keep_refuses_a_chunk_that_readers_would_stumble_over(
    keeping_pool: DecoderPool, upload: Upload
) -> None:
    with pytest.raises(CorruptImage, match="gAMA"):
        await keeping_pool.inspect(upload(photos.with_chunks(photos.png(), photos.chunk(b"gAMA"))))


async def test_an_image_that_needs_too_much_memory_is_refused(new_pool: NewPool, upload: Upload) -> None:
    """49 megapixels in three full components are 294 MB of coefficients."""
    pool = await new_pool(memory_bytes=1 << 28)
    large = photos.encode(photos.photo(700, 700).resize((7000, 7000)), "JPEG", progressive=True)
    with pytest.raises(CorruptImage, match="within the limits"):
        await pool.inspect(upload(large))
    assert (await pool.inspect(upload(photos.jpeg()))).width == 160


async def test_a_spool_shorter_than_it_should_be_is_a_fault_of_the_store(
    pool: DecoderPool, upload: Upload
) -> None:
    received = upload(photos.jpeg())
    received.size += 1  # type: ignore[misc] # a plain attribute of the stand-in
    with pytest.raises(StorageUnavailable):
        await pool.inspect(received)


async def test_a_closed_spool_is_a_fault_of_the_store(pool: DecoderPool, upload: Upload) -> None:
    received = upload(photos.jpeg())
    received.file.close()  # type: ignore[attr-defined] # the stand-in's file
    with pytest.raises(StorageUnavailable):
        await pool.inspect(received)

"""Every JPEG and PNG that cameras and tools make is accepted, and loses nothing but its metadata."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from chitram.images.adapters.decoder.pool import DecoderPool
from chitram.images.domain.content import Slice
from chitram.images.domain.image import ImageFormat
from tests.decoder.conftest import Put, Upload
from tests.support import photos

_BUILDERS = {f"jpeg_{name}": build for name, build in photos.JPEGS.items()} | {
    f"png_{name}": build for name, build in photos.PNGS.items()
}
_every_flavour = pytest.mark.parametrize("build", _BUILDERS.values(), ids=_BUILDERS.keys())

_METADATA = (photos.SECRET, photos.HTML, b"ns.adobe.com", b"Photoshop", b"GPS", b"tEXt", b"acTL", b"MPF")


def _opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


@_every_flavour
async def test_is_accepted_with_format_and_size(
    pool: DecoderPool, upload: Upload, build: Callable[[], bytes]
) -> None:
    data = build()
    found = await pool.inspect(upload(data))
    with Image.open(io.BytesIO(data)) as image:
        assert (found.width, found.height) == image.size
    assert found.format is (ImageFormat.PNG if data.startswith(b"\x89") else ImageFormat.JPEG)


@_every_flavour
async def test_keeps_every_pixel_and_colour_and_no_metadata(
    pool: DecoderPool, upload: Upload, stored: Put, build: Callable[[], bytes]
) -> None:
    data = build()
    kept = stored(data, await pool.inspect(upload(data)))
    before, after = _opened(data), _opened(kept)
    assert after.mode == before.mode
    assert np.array_equal(np.asarray(before), np.asarray(after))
    for each in (
        "icc_profile",
        "gamma",
        "chromaticity",
        "srgb",
        "transparency",
        "jfif_density",
        "adobe_transform",
    ):
        assert after.info.get(each) == before.info.get(each), each
    assert not [each for each in _METADATA if each in kept]


@_every_flavour
async def test_is_stored_as_it_is_when_it_comes_again(
    pool: DecoderPool, upload: Upload, stored: Put, build: Callable[[], bytes]
) -> None:
    data = build()
    once = await pool.inspect(upload(data))
    kept = stored(data, once)
    again = await pool.inspect(upload(kept))
    assert again.pieces == (Slice(0, len(kept)),)
    assert (again.size, again.sha256) == (once.size, once.sha256)
    assert (again.width, again.height) == (once.width, once.height)


@_every_flavour
async def test_is_kept_to_the_last_byte_by_the_policy_keep(
    keeping_pool: DecoderPool, upload: Upload, build: Callable[[], bytes]
) -> None:
    data = build()
    received = upload(data)
    found = await keeping_pool.inspect(received)
    assert found.pieces == (Slice(0, len(data)),)
    assert (found.size, found.sha256) == (len(data), received.sha256)


@pytest.mark.parametrize("orientation", photos.ORIENTATIONS)
@pytest.mark.parametrize("kind", ["jpeg", "jpeg_without_jfif", "png"])
async def test_keeps_orientation_and_tells_the_size_as_displayed(
    pool: DecoderPool, upload: Upload, stored: Put, kind: str, orientation: int
) -> None:
    data = {
        "jpeg": lambda: photos.with_metadata(photos.jpeg(), orientation),
        "jpeg_without_jfif": lambda: photos.with_metadata(photos.JPEGS["without_jfif"](), orientation),
        "png": lambda: photos.with_chunks(photos.png(), photos.png_exif(orientation)),
    }[kind]()
    found = await pool.inspect(upload(data))
    kept = stored(data, found)
    image = _opened(kept)
    assert (found.width, found.height) == (image.size if orientation < 5 else image.size[::-1])
    assert dict(image.getexif()) == ({} if orientation == 1 else {0x0112: orientation})
    assert photos.SECRET not in kept
    assert (await pool.inspect(upload(kept))).sha256 == found.sha256


@pytest.mark.parametrize(
    "name", ["html_in_a_comment", "thumbnail_in_jfif", "fill_bytes", "between_scans", "behind_the_end"]
)
async def test_nothing_is_left_of_what_is_removed_from_a_jpeg(
    pool: DecoderPool, upload: Upload, stored: Put, name: str
) -> None:
    clean = photos.jpeg(progressive=name == "between_scans")
    last_scan = clean.rindex(b"\xff\xda")
    comment = photos.segment(0xFE, photos.SECRET) + photos.segment(0xE2, b"ICC_PROFILE\0\1\1late")
    if name == "between_scans":
        data = clean[:last_scan] + comment + clean[last_scan:]
    elif name == "behind_the_end":
        data = clean + photos.jpeg()
    else:
        data = photos.JPEGS[name]()
    assert stored(data, await pool.inspect(upload(data))) == clean


async def test_orientation_stands_where_exif_has_to(pool: DecoderPool, upload: Upload, stored: Put) -> None:
    clean = photos.jpeg()
    data = photos.with_metadata(clean, 6)
    kept = stored(data, await pool.inspect(upload(data)))
    assert kept[:20] == clean[:20]
    assert kept[20:26] == b"\xff\xe1\0\x22Ex"
    assert kept[56:] == clean[20:]


async def test_a_camera_photo_lies_right_and_tells_no_place(
    pool: DecoderPool, upload: Upload, stored: Put
) -> None:
    data = photos.camera_jpeg()
    found = await pool.inspect(upload(data))
    kept = stored(data, found)
    assert (found.width, found.height) == (3000, 4000)
    assert len(data) - 2000 < len(kept) < len(data)
    assert np.array_equal(photos.pixels(data), photos.pixels(kept))
    assert not _opened(kept).getexif().get_ifd(0x8825)


async def test_keeps_a_large_icc_profile_whole(pool: DecoderPool, upload: Upload, stored: Put) -> None:
    data = photos.with_metadata(photos.jpeg(icc_profile=photos.large_icc_profile()))
    kept = stored(data, await pool.inspect(upload(data)))
    assert _opened(kept).info["icc_profile"] == photos.large_icc_profile()


async def test_keeps_every_chunk_that_says_how_to_show_a_png(
    pool: DecoderPool, upload: Upload, stored: Put
) -> None:
    data = photos.png_with_colours()
    assert stored(data, await pool.inspect(upload(data))) == data


async def test_drops_a_png_chunk_that_readers_would_stumble_over(
    pool: DecoderPool, upload: Upload, stored: Put
) -> None:
    broken = [photos.chunk(kind) for kind in (b"gAMA", b"cHRM", b"sRGB", b"pHYs", b"tRNS", b"iCCP", b"bKGD")]
    broken += [photos.chunk(b"iCCP", b"name\0\0no stream"), photos.chunk(b"tRNS", bytes(5))]
    data = photos.with_chunks(photos.png(), *broken)
    assert stored(data, await pool.inspect(upload(data))) == photos.png()


@pytest.mark.parametrize("kind", [b"iCCP", b"zTXt"])
async def test_drops_metadata_that_inflates_without_end(
    pool: DecoderPool, upload: Upload, stored: Put, kind: bytes
) -> None:
    data = photos.bomb(kind)
    assert stored(data, await pool.inspect(upload(data))) == photos.png()


async def test_keeps_of_chunks_that_come_twice_the_first(
    pool: DecoderPool, upload: Upload, stored: Put
) -> None:
    first = photos.chunk(b"gAMA", (45_455).to_bytes(4, "big"))
    data = photos.with_chunks(photos.png(), first, photos.chunk(b"gAMA", (1).to_bytes(4, "big")))
    assert stored(data, await pool.inspect(upload(data))) == photos.with_chunks(photos.png(), first)


async def test_unique_photos_differ_in_what_is_stored_but_not_in_pixels(
    pool: DecoderPool, upload: Upload
) -> None:
    data = photos.jpeg()
    made = [photos.unique(data, number) for number in (1, 2, 1 << 31)]
    assert len({(await pool.inspect(upload(each))).sha256 for each in made}) == 3
    assert all(np.array_equal(photos.pixels(each), photos.pixels(data)) for each in made)

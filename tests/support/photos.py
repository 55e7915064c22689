"""Pictures for tests: real photographs in every flavour, and files made to do harm.

All are deterministic. The photographs are those that scikit-image ships, read by path; larger ones
are resampled and get sensor noise, without which a camera's file would be many times smaller.
"""

from __future__ import annotations

import base64
import importlib.util
import io
import struct
import zlib
from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms

Samples = npt.NDArray[Any]
# Words planted in metadata, to be looked for in what is stored.
SECRET = b"Secret-Words-Of-The-Owner"
HTML = b"<html><script>alert(document.domain)</script></html>"
ORIENTATIONS = tuple(range(1, 9))


def original(name: str) -> bytes:
    """A photograph's file as scikit-image ships it."""
    found = importlib.util.find_spec("skimage")
    assert found is not None
    assert found.origin is not None
    return (Path(found.origin).parent / "data" / name).read_bytes()


@cache
def clean_photo(name: str) -> Image.Image:
    """A photograph of scikit-image as it is, RGB."""
    with Image.open(io.BytesIO(original(name))) as image:
        return image.convert("RGB")


@cache
def photo(width: int, height: int, name: str = "coffee.png") -> Image.Image:
    """A photograph of `width` times `height` pixels with the noise of a camera's sensor, RGB."""
    noise = np.random.default_rng(width * height).normal(0, 7, (height, width, 1))
    pixels = np.asarray(clean_photo(name).resize((width, height), Image.Resampling.BICUBIC)) + noise
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    """Save an image to bytes."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pixels(data: bytes) -> Samples:
    """What Pillow decodes, as stored: neither rotated nor converted."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


# JPEG


def jpeg(width: int = 160, height: int = 120, **options: Any) -> bytes:
    """A JPEG of a photograph with Pillow's save options."""
    return encode(photo(width, height), "JPEG", **{"quality": 85, **options})


@cache
def camera_jpeg() -> bytes:
    """A 12-megapixel photograph as a camera writes it: about 4 MB, GPS position, lying on its side."""
    return with_metadata(jpeg(4000, 3000, quality=90), orientation=6)


def segment(marker: int, body: bytes) -> bytes:
    """A JPEG marker segment."""
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def with_segments(data: bytes, *added: bytes) -> bytes:
    """Put segments behind SOI and JFIF of a JPEG made here."""
    at = 20 if data[6:11] == b"JFIF\0" else 2
    return data[:at] + b"".join(added) + data[at:]


def exif(orientation: int = 1) -> bytes:
    """Exif with camera, owner, GPS position and orientation, as an APP1 body."""
    block = Image.Exif()
    block[0x010F] = SECRET.decode()
    block[0x0112] = orientation
    block[0x8298] = SECRET.decode()
    block[0x8825] = {1: "N", 2: (17.0, 22.0, 31.5), 3: "E", 4: (78.0, 28.0, 27.6), 29: SECRET.decode()}
    body = block.tobytes()
    return body if body.startswith(b"Exif\0\0") else b"Exif\0\0" + body


def with_metadata(data: bytes, orientation: int = 1) -> bytes:
    """Give a JPEG Exif, XMP, IPTC, a comment, unknown segments and something after its end."""
    return (
        with_segments(
            data,
            segment(0xE1, exif(orientation)),
            segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta>" + SECRET + b"</x:xmpmeta>"),
            segment(0xED, b"Photoshop 3.0\x008BIM\x04\x04" + SECRET),
            segment(0xE4, SECRET),
            segment(0xFE, SECRET),
        )
        + b"trailing "
        + SECRET
    )


@cache
def icc_profile() -> bytes:
    """An sRGB profile."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@cache
def large_icc_profile() -> bytes:
    """A profile that needs three JPEG segments; its filling takes no part in anything."""
    profile = icc_profile() + bytes(np.random.default_rng(1).integers(0, 256, 150_000, np.uint8))
    return struct.pack(">I", len(profile)) + profile[4:]


def _gray(**options: Any) -> bytes:
    return encode(photo(160, 120).convert("L"), "JPEG", **options)


def _cmyk(**options: Any) -> bytes:
    return encode(photo(160, 120).convert("CMYK"), "JPEG", **options)


def _ycck() -> bytes:
    """Four inks of which libjpeg is told that three are coded as luma and chroma."""
    data = bytearray(_cmyk())
    data[data.index(b"Adobe") + 11] = 2
    return bytes(data)


def _several_pictures() -> bytes:
    """A JPEG with a second one behind it, as cameras write previews (MPF)."""
    return encode(photo(160, 120), "MPO", save_all=True, append_images=[photo(80, 60)])


def _unknown_revision() -> bytes:
    data = bytearray(jpeg())
    data[11] = 9
    return bytes(data)


def _thumbnail_in_jfif() -> bytes:
    data = jpeg()
    body = data[6:18] + bytes([4, 4]) + bytes(range(48))
    return data[:2] + segment(0xE0, body) + segment(0xE0, b"JFXX\0\x10" + SECRET) + data[20:]


def _fill_bytes() -> bytes:
    data = jpeg()
    return data[:2] + b"\xff" * 9 + data[2:20] + b"\xff\xff\xff" + data[20:]


# Photographs of 24 x 16 pixels in what no Python library here can write: arithmetic coding,
# arithmetic coding in several scans, and a subsampling of its own for each component.
_ARITHMETIC = (
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABQODxIPDRQSEBIXFRQYHjIhHhwcHj0sLiQySUBMS0dARkVQWnNiUFVtVkVGZIhl"
    "bXd7gYKBTmCNl4x9lnN+gXz/2wBDARUXFx4aHjshITt8U0ZTfHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8"
    "fHx8fHx8fHx8fHx8fHz/yQARCAAQABgDASIAAhEBAxEB/8wACgAQEAUBEBEF/9oADAMBAAIRAxEAPwD+b78ASz8fGIdV32KL"
    "w2Elz2wRLp7gJJvSJv4KFFnsr8D43OUb4udtl48L2Qsube1ke39bSqOS9sPC8D6x7v5AA4X8U+/bXzYsRacWrQ2JSClySbHx"
    "al90fsaiif7CLVwTYi3/2Q=="
)
_ARITHMETIC_PROGRESSIVE = (
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABQODxIPDRQSEBIXFRQYHjIhHhwcHj0sLiQySUBMS0dARkVQWnNiUFVtVkVGZIhl"
    "bXd7gYKBTmCNl4x9lnN+gXz/2wBDARUXFx4aHjshITt8U0ZTfHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8"
    "fHx8fHx8fHx8fHx8fHz/ygARCAAQABgDASIAAhEBAxEB/8wABgAQARD/2gAMAwEAAhADEAAAAfv5YOCoDYnMTpf/zAAEEAX/"
    "2gAIAQEAAQUCHrZw+xgaKN6wJYD/zAAEEQX/2gAIAQMBAT8Bcv/MAAQRBf/aAAgBAgEBPwGY/8wABBAF/9oACAEBAAY/AguA"
    "+6yECSj/zAAEEAX/2gAIAQEAAT8hx64VVeaiR0en2zD/AIptCNYnuAj/2gAMAwEAAgADAAAAEMpw/8wABBEF/9oACAEDAQE/"
    "EL2fPKni/8wABBEF/9oACAECAQE/ENlNp6T/zAAEEAX/2gAIAQEAAT8QcmnTd7GHwKhecJdJsfcA5hp5qWit4XTS3EMPBKXk"
    "IVVpAkb/2Q=="
)
_ODD_SUBSAMPLING = (
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABQODxIPDRQSEBIXFRQYHjIhHhwcHj0sLiQySUBMS0dARkVQWnNiUFVtVkVGZIhl"
    "bXd7gYKBTmCNl4x9lnN+gXz/2wBDARUXFx4aHjshITt8U0ZTfHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8"
    "fHx8fHx8fHx8fHx8fHz/wAARCAAQABgDASIAAiEBAxEB/8QAFwABAQEBAAAAAAAAAAAAAAAABQAEBv/EACIQAAEDAwQDAQAA"
    "AAAAAAAAAAECAxEABFESISJBBTFxYf/EABcBAAMBAAAAAAAAAAAAAAAAAAACBAH/xAAaEQEBAAMBAQAAAAAAAAAAAAABAAIR"
    "IRJR/9oADAMBAAIRAxEAPwDBa27No62HAdyNSj7A7+U23MQ8w0GMjoZmiPMtOtJQsyG1CNeDg/aJZdVqWVghsp48tknNSdye"
    "2+H7XLjoC6S3dQVhaFQjqfdVG26itsKE6J26n9qpNaiZBeX/2Q=="
)

JPEGS: Mapping[str, Callable[[], bytes]] = {
    "original_hubble": partial(original, "hubble_deep_field.jpg"),
    "original_retina": partial(original, "retina.jpg"),
    "original_rocket": partial(original, "rocket.jpg"),
    "baseline": jpeg,
    "progressive": partial(jpeg, progressive=True),
    "progressive_444": partial(jpeg, progressive=True, subsampling="4:4:4"),
    "optimised_huffman": partial(jpeg, optimize=True),
    "subsampling_444": partial(jpeg, subsampling="4:4:4"),
    "subsampling_422": partial(jpeg, subsampling="4:2:2"),
    "subsampling_420": partial(jpeg, subsampling="4:2:0"),
    "odd_subsampling": partial(base64.b64decode, _ODD_SUBSAMPLING),
    "restart_markers": partial(jpeg, restart_marker_blocks=3),
    "restart_markers_progressive": partial(jpeg, restart_marker_rows=1, progressive=True),
    "gray": _gray,
    "gray_progressive": partial(_gray, progressive=True),
    "cmyk": _cmyk,
    "cmyk_progressive": partial(_cmyk, progressive=True),
    "ycck": _ycck,
    "rgb": partial(jpeg, keep_rgb=True),
    "arithmetic": partial(base64.b64decode, _ARITHMETIC),
    "arithmetic_progressive": partial(base64.b64decode, _ARITHMETIC_PROGRESSIVE),
    "icc": lambda: jpeg(icc_profile=icc_profile()),
    "large_icc": lambda: jpeg(icc_profile=large_icc_profile()),
    "metadata": lambda: with_metadata(jpeg(icc_profile=icc_profile())),
    "html_in_a_comment": lambda: with_segments(jpeg(), segment(0xFE, HTML)),
    "several_pictures": _several_pictures,
    "unknown_jfif_revision": _unknown_revision,
    "thumbnail_in_jfif": _thumbnail_in_jfif,
    "fill_bytes": _fill_bytes,
    "without_jfif": lambda: jpeg()[:2] + jpeg()[20:],
    "bytes_before_the_end": lambda: jpeg()[:-2] + bytes(8) + jpeg()[-2:],
    "one_pixel": partial(jpeg, 1, 1),
    "very_wide": partial(jpeg, 65_500, 1),
    "very_high": partial(jpeg, 1, 65_500),
}


def unique(data: bytes, number: int) -> bytes:
    """Make one of 2^32 JPEGs with the same pixels whose *stored* bytes all differ, in no time.

    The number goes into the density of JFIF, which is kept; `data` must have that segment first.
    """
    assert data[6:11] == b"JFIF\0"
    return data[:14] + struct.pack(">I", number) + data[18:]


# PNG

_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


def chunk(kind: bytes, body: bytes = b"") -> bytes:
    """A PNG chunk with its checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def header(width: int, height: int, depth: int = 8, colour: int = 2, interlace: int = 0) -> bytes:
    """IHDR."""
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace))


def _rows(samples: Samples, depth: int) -> bytes:
    """Rows of samples as PNG packs them, each with filter 0 in front."""
    height = len(samples)
    flat = samples.reshape(height, -1)
    if depth == 16:
        packed = flat.astype(">u2").view(np.uint8).reshape(height, -1)
    elif depth == 8:
        packed = flat.astype(np.uint8)
    else:
        bits = (flat[:, :, None] >> np.arange(depth - 1, -1, -1)) & 1
        packed = np.packbits(bits.reshape(height, -1).astype(np.uint8), axis=1)
    return np.pad(packed, ((0, 0), (1, 0))).tobytes()


def png_of(
    samples: Samples, depth: int, colour: int, *, interlace: bool = False, before: Iterable[bytes] = ()
) -> bytes:
    """A PNG of samples (height, width, channels) in any depth, colour type and interlacing.

    `before` are chunks between header and image data.
    """
    height, width = samples.shape[:2]
    passes = [samples[y::dy, x::dx] for x, y, dx, dy in _ADAM7] if interlace else [samples]
    raw = b"".join(_rows(part, depth) for part in passes if part.size)
    parts = [header(width, height, depth, colour, int(interlace)), *before]
    return png_file(*parts, chunk(b"IDAT", zlib.compress(raw)), chunk(b"IEND"))


def png_file(*chunks: bytes) -> bytes:
    """Chunks behind a PNG's signature."""
    return PNG_SIGNATURE + b"".join(chunks)


@cache
def _samples(depth: int, colour: int) -> Samples:
    """A photograph as samples of `depth` bits."""
    image = photo(61, 47)
    gray = np.asarray(image.convert("L"))[:, :, None]
    alpha = np.linspace(0, 255, 61, dtype=np.uint8)[None, :, None].repeat(47, axis=0)
    planes = {
        0: gray,
        2: np.asarray(image),
        3: gray,
        4: np.concatenate([gray, alpha], 2),
        6: np.concatenate([np.asarray(image), alpha], 2),
    }[colour].astype(np.uint32)
    return planes * 257 if depth == 16 else planes >> (8 - depth)


def png(depth: int = 8, colour: int = 2, *, interlace: bool = False, before: Iterable[bytes] = ()) -> bytes:
    """A PNG of 61 x 47 pixels."""
    palette = [chunk(b"PLTE", (bytes(range(256)) * 3)[: 3 << depth])] if colour == 3 else []
    return png_of(_samples(depth, colour), depth, colour, interlace=interlace, before=[*palette, *before])


def with_chunks(data: bytes, *added: bytes, behind: bytes = b"") -> bytes:
    """Put chunks behind the header of a PNG, and others before its end."""
    return data[:33] + b"".join(added) + data[33:-12] + behind + data[-12:]


def png_exif(orientation: int) -> bytes:
    """An eXIf chunk with camera, owner, GPS position and orientation."""
    return chunk(b"eXIf", exif(orientation).removeprefix(b"Exif\0\0"))


def png_with_metadata(orientation: int = 1) -> bytes:
    """A PNG with texts, time, Exif, a chunk of its own and something after its end."""
    compressed = zlib.compress(SECRET)
    return (
        with_chunks(
            png(),
            chunk(b"tEXt", b"Author\0" + SECRET),
            chunk(b"zTXt", b"Comment\0\0" + compressed),
            chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + compressed),
            chunk(b"tIME", bytes([7, 230, 11, 5, 12, 0, 0])),
            chunk(b"sPLT", SECRET + b"\0\x08" + bytes(6)),
            png_exif(orientation),
            behind=chunk(b"teSt", SECRET),
        )
        + b"trailing "
        + SECRET
    )


def png_with_colours() -> bytes:
    """A PNG with every chunk that says how to show it."""
    return with_chunks(
        png(),
        chunk(b"gAMA", struct.pack(">I", 45_455)),
        chunk(b"cHRM", struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)),
        chunk(b"sBIT", bytes([8, 8, 8])),
        chunk(b"iCCP", b"sRGB\0\0" + zlib.compress(icc_profile())),
        chunk(b"cICP", bytes([1, 13, 0, 1])),
        chunk(b"mDCV", bytes(24)),
        chunk(b"cLLI", bytes(8)),
        chunk(b"bKGD", bytes(6)),
        chunk(b"pHYs", struct.pack(">IIB", 3780, 3780, 1)),
        chunk(b"tRNS", bytes(6)),
    )


def _animated() -> bytes:
    frames = [photo(61, 47), photo(61, 47, "rocket.jpg")]
    return encode(frames[0], "PNG", save_all=True, append_images=frames[1:])


def _many_image_chunks() -> bytes:
    data = png()
    length = int.from_bytes(data[33:37], "big")
    body = data[41 : 41 + length]
    parts = [chunk(b"IDAT", body[at : at + 100]) for at in range(0, length, 100)]
    return data[:33] + b"".join([chunk(b"IDAT"), *parts]) + data[-12:]


_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_COLOURS = {0: "gray", 2: "rgb", 3: "palette", 4: "gray_alpha", 6: "rgba"}

PNGS: Mapping[str, Callable[[], bytes]] = {
    f"{_COLOURS[colour]}_{depth}{'_interlaced' * interlace}": partial(png, depth, colour, interlace=interlace)
    for colour, depths in _DEPTHS.items()
    for depth in depths
    for interlace in (False, True)
} | {
    "palette_with_transparency": lambda: png(4, 3, before=[chunk(b"tRNS", bytes(range(0, 160, 10)))]),
    "gray_with_transparent_value": lambda: png(8, 0, before=[chunk(b"tRNS", bytes([0, 90]))]),
    "original_astronaut": partial(original, "astronaut.png"),
    "original_chelsea": partial(original, "chelsea.png"),
    "colours": png_with_colours,
    "metadata": png_with_metadata,
    "animated": _animated,
    "pillow": lambda: encode(photo(160, 120), "PNG"),
    "many_image_chunks": _many_image_chunks,
    "more_rows_than_it_says": lambda: png_file(
        header(61, 40), chunk(b"IDAT", zlib.compress(_rows(_samples(8, 2), 8) * 200)), chunk(b"IEND")
    ),
    "plain_text": lambda: with_chunks(png(), chunk(b"iTXt", b"Comment\0\0\0\0\0" + SECRET)),
    "one_pixel": lambda: png_of(np.zeros((1, 1, 3), np.uint8), 8, 2),
    "one_pixel_interlaced": lambda: png_of(np.zeros((1, 1, 1), np.uint8), 1, 0, interlace=True),
    "one_row": lambda: png_of(np.zeros((1, 5000, 1), np.uint8), 1, 0),
    "one_column": lambda: png_of(np.zeros((5000, 1, 1), np.uint8), 1, 0, interlace=True),
}


# Files made to do harm


@cache
def blank_png(side: int, depth: int, colour: int) -> bytes:
    """A tiny file of `side` times `side` pixels."""
    row = 1 + (side * depth * _SAMPLES[colour] + 7) // 8
    stream = zlib.compressobj(9)
    parts = [stream.compress(bytes(row * 100)) for _ in range(side // 100)] + [stream.flush()]
    return png_file(header(side, side, depth, colour), chunk(b"IDAT", b"".join(parts)), chunk(b"IEND"))


def bomb(kind: bytes) -> bytes:
    """A PNG with 50 MB of zeros in one compressed chunk of metadata."""
    return with_chunks(png(), chunk(kind, b"name\0\0" + zlib.compress(bytes(50_000_000), 9)))


def _half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _noise() -> bytes:
    return np.random.default_rng(2).integers(0, 256, 50_000, np.uint8).tobytes()


def _patched(data: bytes, at: int, value: bytes) -> bytes:
    return data[:at] + value + data[at + len(value) :]


def _frame_at(data: bytes) -> int:
    return data.index(b"\xff\xc0")


def _many_scans() -> bytes:
    """A progressive JPEG whose last scan comes 5000 times."""
    data = jpeg(progressive=True)
    return data[:-2] + data[data.rindex(b"\xff\xda") : -2] * 5000 + data[-2:]


def _without_first_scan() -> bytes:
    """A progressive JPEG that never tells its lowest frequencies."""
    data = jpeg(progressive=True)
    first = data.index(b"\xff\xda")
    return data[:first] + data[data.index(b"\xff\xc4", first) :]


def _damaged(data: bytes) -> bytes:
    """A JPEG with a hole in the middle of its scan."""
    at = len(data) // 2
    return _patched(data, at, b"\xff\0" * 60)


def _cut_rows() -> bytes:
    """A PNG whose image data ends in good order, but too early."""
    rows = _rows(_samples(8, 2)[:20], 8)
    return png_file(header(61, 47), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND"))


def _unknown_filter() -> bytes:
    rows = bytearray(_rows(_samples(8, 2), 8))
    rows[5 * (1 + 3 * 61)] = 5
    return png_file(header(61, 47), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND"))


SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'

# Each with the code of the error that it ends in.
HOSTILE: Mapping[str, tuple[Callable[[], bytes], str]] = {
    "zero_bytes": (bytes, "INVALID_FILE_FORMAT"),
    "svg": (lambda: SVG, "INVALID_FILE_FORMAT"),
    "html": (lambda: HTML, "INVALID_FILE_FORMAT"),
    "gif": (lambda: encode(photo(61, 47), "GIF"), "INVALID_FILE_FORMAT"),
    "webp": (lambda: encode(photo(61, 47), "WEBP"), "INVALID_FILE_FORMAT"),
    "noise": (_noise, "INVALID_FILE_FORMAT"),
    "two_bytes_of_jpeg": (lambda: jpeg()[:2], "INVALID_FILE_FORMAT"),
    "twenty_bytes_of_jpeg": (lambda: jpeg()[:20], "CORRUPT_IMAGE"),
    "twenty_bytes_of_png": (lambda: png()[:20], "CORRUPT_IMAGE"),
    "half_a_jpeg": (lambda: _half(jpeg()), "CORRUPT_IMAGE"),
    "half_a_jpeg_with_an_end": (lambda: _half(jpeg()) + b"\xff\xd9", "CORRUPT_IMAGE"),
    "half_a_progressive_jpeg_with_an_end": (
        lambda: _half(jpeg(progressive=True)) + b"\xff\xd9",
        "CORRUPT_IMAGE",
    ),
    "half_a_jpeg_hidden_by_a_harmless_warning": (
        lambda: _half(_unknown_revision()) + b"\xff\xd9",
        "CORRUPT_IMAGE",
    ),
    "jpeg_without_an_end": (lambda: jpeg()[:-2], "CORRUPT_IMAGE"),
    "jpeg_signature_and_noise": (lambda: b"\xff\xd8\xff" + _noise(), "CORRUPT_IMAGE"),
    "jpeg_with_a_hole": (lambda: _damaged(jpeg()), "CORRUPT_IMAGE"),
    "jpeg_without_a_scan": (lambda: jpeg()[: jpeg().index(b"\xff\xda")] + b"\xff\xd9", "CORRUPT_IMAGE"),
    "jpeg_without_a_frame": (lambda: b"\xff\xd8" + segment(0xFE, b"x") + b"\xff\xd9", "CORRUPT_IMAGE"),
    "jpeg_with_a_short_frame_header": (
        lambda: with_segments(jpeg(), segment(0xC0, b"\x08\0\x78")),
        "CORRUPT_IMAGE",
    ),
    "jpeg_of_two_components": (
        lambda: with_segments(jpeg(), segment(0xC0, b"\x08\0\x78\0\xa0\x02" + bytes(6))),
        "CORRUPT_IMAGE",
    ),
    "jpeg_with_a_malformed_scan_header": (
        lambda: _patched(jpeg(), jpeg().index(b"\xff\xda") + 4, b"\x09"),
        "CORRUPT_IMAGE",
    ),
    "jpeg_with_stray_bytes": (lambda: with_segments(jpeg(), b"nine byte"), "CORRUPT_IMAGE"),
    "jpeg_within_a_jpeg": (lambda: with_segments(jpeg(), jpeg()), "CORRUPT_IMAGE"),
    "jpeg_with_two_frames": (
        lambda: with_segments(jpeg(), jpeg()[_frame_at(jpeg()) : _frame_at(jpeg()) + 19]),
        "CORRUPT_IMAGE",
    ),
    "jpeg_of_12_bits": (lambda: _patched(jpeg(), _frame_at(jpeg()) + 4, b"\x0c"), "CORRUPT_IMAGE"),
    "lossless_jpeg": (lambda: _patched(jpeg(), _frame_at(jpeg()) + 1, b"\xc3"), "CORRUPT_IMAGE"),
    "jpeg_without_height": (lambda: _patched(jpeg(), _frame_at(jpeg()) + 5, b"\0\0"), "CORRUPT_IMAGE"),
    "jpeg_with_a_wrong_length": (lambda: _patched(jpeg(), 4, b"\xff\xff"), "CORRUPT_IMAGE"),
    "jpeg_without_its_first_scan": (_without_first_scan, "CORRUPT_IMAGE"),
    "jpeg_with_many_scans": (_many_scans, "CORRUPT_IMAGE"),
    "jpeg_with_many_segments": (
        lambda: with_segments(jpeg(), segment(0xFE, b"") * 20_000),
        "CORRUPT_IMAGE",
    ),
    "jpeg_that_says_it_is_huge": (
        lambda: _patched(jpeg(), _frame_at(jpeg()) + 5, b"\xff\xdc\xff\xdc"),
        "IMAGE_TOO_LARGE",
    ),
    "png_of_400_megapixels": (lambda: blank_png(20_000, 1, 0), "IMAGE_TOO_LARGE"),
    "png_of_169_megapixels": (lambda: blank_png(13_000, 8, 2), "IMAGE_TOO_LARGE"),
    "half_a_png": (lambda: _half(png()), "CORRUPT_IMAGE"),
    "png_without_an_end": (lambda: png()[:-12], "CORRUPT_IMAGE"),
    "png_that_begins_with_something_else": (
        lambda: png_file(chunk(b"tEXt", b"a\0b"), png()[8:]),
        "CORRUPT_IMAGE",
    ),
    "png_whose_stream_is_none": (
        lambda: png_file(header(61, 47), chunk(b"IDAT", SECRET), chunk(b"IEND")),
        "CORRUPT_IMAGE",
    ),
    "png_without_image_data": (lambda: png_file(header(61, 47), chunk(b"IEND")), "CORRUPT_IMAGE"),
    "png_with_rows_missing": (_cut_rows, "CORRUPT_IMAGE"),
    "png_with_its_stream_cut": (
        lambda: png_file(header(61, 47), chunk(b"IDAT", _half(png())[41:]), chunk(b"IEND")),
        "CORRUPT_IMAGE",
    ),
    "png_with_an_unknown_filter": (_unknown_filter, "CORRUPT_IMAGE"),
    "png_with_a_wrong_checksum": (lambda: png()[:-16] + bytes(4) + png()[-12:], "CORRUPT_IMAGE"),
    "png_with_damaged_image_data": (lambda: _patched(png(), 60, b"\0\1\2\3"), "CORRUPT_IMAGE"),
    "png_with_a_huge_chunk": (lambda: _patched(png(), 33, b"\x7f\xff\xff\xff"), "CORRUPT_IMAGE"),
    "png_with_a_chunk_of_no_type": (lambda: with_chunks(png(), chunk(b"\0\1\2\3")), "CORRUPT_IMAGE"),
    "png_with_an_unknown_critical_chunk": (
        lambda: with_chunks(png(), chunk(b"CgBI", bytes(4))),
        "CORRUPT_IMAGE",
    ),
    "png_without_its_palette": (lambda: png_of(_samples(8, 3), 8, 3), "CORRUPT_IMAGE"),
    "png_of_an_unknown_colour_type": (
        lambda: _patched(png(), 8, header(61, 47, 8, 5)),
        "CORRUPT_IMAGE",
    ),
    "png_of_no_width": (lambda: _patched(png(), 8, header(0, 47)), "CORRUPT_IMAGE"),
    "png_with_image_data_in_two_places": (
        lambda: with_chunks(png(), behind=chunk(b"tEXt", b"a\0b") + chunk(b"IDAT")),
        "CORRUPT_IMAGE",
    ),
    "png_with_two_headers": (lambda: with_chunks(png(), header(61, 47)), "CORRUPT_IMAGE"),
    "png_with_something_in_its_end": (lambda: png()[:-12] + chunk(b"IEND", SECRET), "CORRUPT_IMAGE"),
    "png_with_many_chunks": (
        lambda: with_chunks(png(), chunk(b"tEXt") * 120_000),
        "CORRUPT_IMAGE",
    ),
}

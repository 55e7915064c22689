"""Originals of every awkward kind, each with what it should look like."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from tests.support import photos
from tests.support.profiles import (
    ADOBE_RGB,
    DISPLAY_P3,
    PROPHOTO,
    Space,
    grey_profile,
    ink_profile,
    inks_to_srgb,
    srgb_to_linear,
)

Floats = npt.NDArray[np.float64]


class Original(NamedTuple):
    """A file, the sRGB colours it should show (upright, 0 to 1) and its cover, None for opaque."""

    data: bytes
    colours: Floats
    alpha: Floats | None = None


@cache
def scene(width: int = 660, height: int = 440) -> Floats:
    """A photograph without noise, of 0 to 1, unlike itself however it is turned."""
    source = photos.clean_photo("coffee.png").resize((width, height), Image.Resampling.BICUBIC)
    shown: Floats = np.asarray(source, np.float64) / 255
    return shown


def _panorama() -> Floats:
    """Large enough to be decoded at less than its size, or averaged in tiles."""
    return scene(2400, 1600)[700:1160]


def _eight(values: Floats) -> npt.NDArray[np.uint8]:
    return (values * 255).round().astype(np.uint8)


def _jpeg(values: Floats, mode: str = "RGB", **options: object) -> bytes:
    return photos.encode(Image.fromarray(_eight(values), mode), "JPEG", quality=95, subsampling=0, **options)


def _chunks(profile: bytes | None) -> list[bytes]:
    return [photos.chunk(b"iCCP", b"test\0\0" + zlib.compress(profile))] if profile else []


def _turned(orientation: int) -> Original:
    """The scene as a camera held so would store it: read back, the pixels have to be turned."""
    shown = scene()
    stored = {
        1: shown,
        2: shown[:, ::-1],
        3: shown[::-1, ::-1],
        4: shown[::-1],
        5: shown.transpose(1, 0, 2),
        6: np.rot90(shown, 1),
        7: np.rot90(shown, 2).transpose(1, 0, 2),
        8: np.rot90(shown, -1),
    }[orientation]
    return Original(photos.with_metadata(_jpeg(np.ascontiguousarray(stored)), orientation), shown)


def _turned_png() -> Original:
    stored = _eight(np.rot90(scene(), 1))
    return Original(photos.png_of(stored, 8, 2, before=[photos.png_exif(6)]), scene())


def _disc(width: int = 660, height: int = 500) -> Floats:
    """Cover of a disc with a soft edge."""
    y, x = np.mgrid[:height, :width]
    cover: Floats = ((180 - np.hypot(x - 330, y - 250)) / 6 + 0.5).clip(0, 1)
    return cover


def _soft_edges(hidden: float, depth: int = 8) -> Original:
    """A disc of a photograph; what is hidden is `hidden`, which must not be seen at the edges."""
    alpha = _disc()
    colours = np.where(alpha[..., None] > 0, 0.4 + 0.6 * scene(660, 500), hidden)
    most = (1 << depth) - 1
    samples = (np.concatenate([colours, alpha[..., None]], 2) * most).round().astype(np.uint32)
    return Original(photos.png_of(samples, depth, 6), colours, alpha)


def _grey_alpha(depth: int, *, interlace: bool = False) -> Original:
    alpha = _disc()
    grey = scene(660, 500).mean(2)
    samples = (np.stack([grey, alpha], 2) * ((1 << depth) - 1)).round().astype(np.uint32)
    return Original(photos.png_of(samples, depth, 4, interlace=interlace), np.stack([grey] * 3, 2), alpha)


def _opaque_alpha() -> Original:
    samples = np.dstack([_eight(scene()), np.full((440, 660), 255, np.uint8)])
    return Original(photos.png_of(samples, 8, 6), scene())


def _palette(*, transparent: bool) -> Original:
    """64 colours, of which the brighter are the less opaque."""
    image = Image.fromarray(_eight(scene())).quantize(64)
    colours = np.array((image.getpalette() or [])[: 3 * 64], np.uint8).reshape(64, 3)
    alpha = 255 - colours.max(1) // 2 if transparent else np.full(64, 255)
    indices = np.asarray(image)
    before = [photos.chunk(b"PLTE", colours.tobytes())]
    if transparent:
        before.append(photos.chunk(b"tRNS", alpha.astype(np.uint8).tobytes()))
    data = photos.png_of(indices[..., None], 8, 3, before=before)
    return Original(data, colours[indices] / 255, alpha[indices] / 255 if transparent else None)


def _key(depth: int, colour: int) -> Original:
    """The scene with a rectangle of one colour, which is transparent."""
    most = (1 << depth) - 1
    values = scene()[..., : 1 if colour == 0 else 3]
    samples = (values * (most - 1)).round().astype(np.uint32)
    samples[110:330, 150:520] = most
    key = struct.pack(">H", most) * samples.shape[2]
    alpha = (samples != most).any(2).astype(np.float64)
    data = photos.png_of(samples, depth, colour, before=[photos.chunk(b"tRNS", key)])
    return Original(data, np.broadcast_to(samples / most, (*alpha.shape, 3)), alpha)


def _grey(depth: int, *, interlace: bool = False) -> Original:
    most = (1 << depth) - 1
    samples = (scene().mean(2)[..., None] * most).round().astype(np.uint32)
    data = photos.png_of(samples, depth, 0, interlace=interlace)
    return Original(data, np.repeat(samples / most, 3, 2))


def _rgb16(*, interlace: bool = False) -> Original:
    samples = (scene() * 65_535).round().astype(np.uint32)
    return Original(photos.png_of(samples, 16, 2, interlace=interlace), scene())


def _wide(space: Space, *, depth: int = 8) -> Original:
    """The scene in the numbers of another space: only who converts sees it right."""
    samples = (space.from_srgb(scene()) * ((1 << depth) - 1)).round().astype(np.uint32)
    return Original(photos.png_of(samples, depth, 2, before=_chunks(space.profile())), scene())


def _wide_jpeg(space: Space) -> Original:
    return Original(_jpeg(space.from_srgb(scene()), icc_profile=space.profile()), scene())


def _wide_alpha() -> Original:
    plain = _soft_edges(0.0)
    alpha = _disc()
    colours = DISPLAY_P3.from_srgb(plain.colours)
    samples = _eight(np.concatenate([colours, alpha[..., None]], 2))
    return Original(photos.png_of(samples, 8, 6, before=_chunks(DISPLAY_P3.profile())), plain.colours, alpha)


def _grey_with_profile() -> Original:
    grey = scene().mean(2)
    coded = srgb_to_linear(grey) ** (1 / 1.2)
    return Original(_jpeg(coded, "L", icc_profile=grey_profile(1.2)), np.stack([grey] * 3, 2))


def _inks(colours: Floats) -> Floats:
    """Colours in four inks of 0 to 1, with black taken out of the others."""
    black = (1 - colours.max(2)) * 0.8
    rest = 1 - colours / (1 - black[..., None]).clip(1e-6)
    return np.dstack([rest.clip(0, 1), black])


def _cmyk(*, adobe: bool = True, profile: bool = False, large: bool = False) -> Original:
    inks = _inks(_panorama() if large else scene())
    data = _jpeg(inks, "CMYK", **({"icc_profile": ink_profile()} if profile else {}))
    if not adobe:
        at = data.index(b"\xff\xee")
        data = data[:at] + data[at + 2 + int.from_bytes(data[at + 2 : at + 4], "big") :]
        assert b"Adobe" not in data
    shown = inks_to_srgb(inks) if profile else (1 - inks[..., :3]) * (1 - inks[..., 3:])
    return Original(data, shown)


def _with_profile(profile: bytes) -> Original:
    return Original(_jpeg(scene(), icc_profile=profile), scene())


def _strip(width: int, height: int) -> Original:
    values = scene()[220:221, :, :].repeat(8, 1)[:, :5000]
    values = values if height == 1 else values.transpose(1, 0, 2)
    assert values.shape[:2] == (height, width)
    return Original(photos.png_of(_eight(values), 8, 2), values)


def _pixel() -> Original:
    values = np.array([[[0.8, 0.2, 0.4]]])
    return Original(photos.png_of(_eight(values), 8, 2), _eight(values) / 255)


def _animated() -> Original:
    frames = [Image.fromarray(_eight(scene())), Image.new("RGB", (660, 440), "red")]
    return Original(photos.encode(frames[0], "PNG", save_all=True, append_images=frames[1:]), scene())


def _large() -> Original:
    values = _panorama()
    return Original(photos.encode(Image.fromarray(_eight(values)), "PNG", compress_level=1), values)


def _large_jpeg() -> Original:
    values = _panorama()
    return Original(_jpeg(values), values)


ORIGINALS: Mapping[str, Callable[[], Original]] = {
    **{f"orientation_{each}": partial(_turned, each) for each in photos.ORIENTATIONS},
    "orientation_in_png": _turned_png,
    "alpha_over_hidden_black": partial(_soft_edges, 0.0),
    "alpha_over_hidden_white": partial(_soft_edges, 1.0),
    "alpha_16_bits": partial(_soft_edges, 0.0, 16),
    "alpha_of_grey": partial(_grey_alpha, 8),
    "alpha_of_grey_16_bits_interlaced": partial(_grey_alpha, 16, interlace=True),
    "alpha_all_opaque": _opaque_alpha,
    "palette": partial(_palette, transparent=False),
    "palette_with_transparency": partial(_palette, transparent=True),
    "transparent_grey": partial(_key, 8, 0),
    "transparent_grey_1_bit": partial(_key, 1, 0),
    "transparent_grey_2_bits": partial(_key, 2, 0),
    "transparent_grey_16_bits": partial(_key, 16, 0),
    "transparent_colour": partial(_key, 8, 2),
    "transparent_colour_16_bits": partial(_key, 16, 2),
    "grey_1_bit": partial(_grey, 1),
    "grey_4_bits_interlaced": partial(_grey, 4, interlace=True),
    "grey_16_bits": partial(_grey, 16),
    "rgb_16_bits": _rgb16,
    "rgb_16_bits_interlaced": partial(_rgb16, interlace=True),
    "display_p3": partial(_wide_jpeg, DISPLAY_P3),
    "display_p3_with_alpha": _wide_alpha,
    "adobe_rgb": partial(_wide_jpeg, ADOBE_RGB),
    "prophoto_16_bits": partial(_wide, PROPHOTO, depth=16),
    "grey_with_profile": _grey_with_profile,
    "cmyk": _cmyk,
    "cmyk_without_adobe_marker": partial(_cmyk, adobe=False),
    "cmyk_with_profile": partial(_cmyk, profile=True),
    "broken_profile": lambda: _with_profile(DISPLAY_P3.profile()[:200]),
    "profile_of_another_space": lambda: _with_profile(grey_profile(1.2)),
    "strip_5000_wide": partial(_strip, 5000, 1),
    "strip_5000_high": partial(_strip, 1, 5000),
    "one_pixel": _pixel,
    "animated": _animated,
    "large_png": _large,
    "large_jpeg": _large_jpeg,
    "large_cmyk": partial(_cmyk, large=True),
}

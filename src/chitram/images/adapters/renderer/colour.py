"""Bring pictures to sRGB."""

from __future__ import annotations

import io
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

# Colours inside sRGB stay what they are, and the darkest stays black.
_INTENT = ImageCms.Intent.RELATIVE_COLORIMETRIC
_FLAGS = ImageCms.Flags.BLACKPOINTCOMPENSATION
# Rounding in profiles of sRGB that writers make differs by so much, in 255ths.
_SAME = 2
_SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert a picture of mode L, RGB, LA, RGBA or CMYK by its ICC profile to sRGB.

    Transparency stays, grey stays grey. A profile that cannot be used is as good as none, and then
    numbers are taken for sRGB and four inks are mixed as browsers do.
    """
    if image.mode in {"LA", "RGBA"}:
        colours = to_srgb(image.convert(image.mode[:-1]), profile)
        colours.putalpha(image.getchannel("A"))
        return colours
    transform = _transform(profile, image.mode) if profile else None
    if transform is None:
        return image.convert("RGB") if image.mode == "CMYK" else image
    converted = ImageCms.applyTransform(image, transform)
    assert converted is not None  # noqa: S101 - not in place
    return converted.convert("L") if image.mode == "L" else converted


def is_srgb(profile: bytes) -> bool:
    """Whether a profile of RGB makes no difference, or cannot be used."""
    transform = _transform(profile, "RGB")
    if transform is None:
        return True
    steps = np.linspace(0, 255, 9).round().astype(np.uint8)
    colours = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(1, -1, 3)
    converted = ImageCms.applyTransform(Image.fromarray(colours), transform)
    differences = np.abs(np.asarray(converted, np.int16) - colours)
    return int(differences.max()) <= _SAME


@lru_cache(maxsize=4)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Prepare a conversion to sRGB; None for a profile that is broken or of another colour space."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return ImageCms.buildTransform(source, _SRGB, mode, "RGB", _INTENT, _FLAGS)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None

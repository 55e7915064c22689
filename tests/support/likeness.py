"""References for thumbnails, made without the code under test, and measures of how far they are off."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image
from skimage.color import deltaE_ciede2000, rgb2lab
from skimage.metrics import structural_similarity

from chitram.images.domain.rendition import RenditionFormat

Floats = npt.NDArray[np.float64]
_LOBES = 3


def shrink(samples: Floats, width: int, height: int) -> Floats:
    """Shrink (height, width, channels) by Lanczos in floating point."""
    down = _weights(samples.shape[0], height)
    across = _weights(samples.shape[1], width)
    return np.asarray(np.einsum("yh,hwc,xw->yxc", down, samples, across, optimize=True)).clip(0, 1)


def _weights(source: int, target: int) -> Floats:
    if source == target:
        return np.eye(source)
    scale = source / target
    centres = (np.arange(target) + 0.5) * scale
    at = (np.arange(source)[None, :] + 0.5 - centres[:, None]) / scale
    weights = np.sinc(at) * np.sinc(at / _LOBES) * (np.abs(at) < _LOBES)
    return np.asarray(weights / weights.sum(1, keepdims=True))


@dataclass(frozen=True)
class Likeness:
    """How alike two pictures are: SSIM of luma, mean and 99th percentile of CIEDE2000."""

    ssim: float
    mean_difference: float
    worst_difference: float

    def check(self, form: RenditionFormat) -> None:
        """Fail for what is worse than a format has to be."""
        worst = _WORST[form]
        assert self.ssim >= worst.ssim
        assert self.mean_difference <= worst.mean_difference
        assert self.worst_difference <= worst.worst_difference


# Of each format the worst that is measured, and some room: PNG is without loss, so that only the
# rounding of its colours shows. A turned picture has an SSIM below 0.5; colours that nobody
# converted are off by 3 on average, and a dark fringe by 20 where it is.
_WORST = {
    RenditionFormat.JPEG: Likeness(ssim=0.94, mean_difference=2.3, worst_difference=10.0),
    RenditionFormat.PNG: Likeness(ssim=0.998, mean_difference=0.6, worst_difference=2.5),
}


def likeness(content: bytes, colours: Floats, alpha: Floats | None = None) -> Likeness:
    """Compare a file with what it should show, of 0 to 1, on white and on black; the worse counts.

    `colours` are as the original has them, not premultiplied, and of its size.
    """
    with Image.open(io.BytesIO(content)) as image:
        found = np.asarray(image.convert("RGBA"), np.float64) / 255
    height, width = found.shape[:2]
    covered = np.ones((*colours.shape[:2], 1)) if alpha is None else alpha[..., None]
    light, cover = shrink(colours * covered, width, height), shrink(covered, width, height)
    measures = []
    for background in (1.0,) if alpha is None else (1.0, 0.0):
        expected = (light + (1 - cover) * background).clip(0, 1)
        shown = found[..., :3] * found[..., 3:] + (1 - found[..., 3:]) * background
        measures.append(_compare(expected, shown))
    return Likeness(
        min(each.ssim for each in measures),
        max(each.mean_difference for each in measures),
        max(each.worst_difference for each in measures),
    )


def _compare(expected: Floats, shown: Floats) -> Likeness:
    if min(expected.shape[:2]) < 7:
        # Too narrow for a window: repeated across, a strip is a picture of stripes.
        repeats = [max(1, -(-8 // side)) for side in expected.shape[:2]]
        expected, shown = (np.tile(each, (*repeats, 1)) for each in (expected, shown))
    luma = [each @ [0.299, 0.587, 0.114] for each in (expected, shown)]
    difference = deltaE_ciede2000(rgb2lab(expected), rgb2lab(shown))  # type: ignore[no-untyped-call] # has no types
    return Likeness(
        float(structural_similarity(*luma, data_range=1)),  # type: ignore[no-untyped-call] # has no types
        float(difference.mean()),
        float(np.percentile(difference, 99)),
    )

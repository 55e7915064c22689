"""Thumbnails look like their originals, whatever these are: upright, in sRGB, without fringes."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from chitram.images.adapters.renderer.renderer import ChildRenderer
from chitram.images.domain.rendition import RenditionFormat, fitted
from tests.renditions.conftest import New
from tests.support import photos
from tests.support.likeness import likeness, shrink
from tests.support.originals import ORIGINALS, scene

# Those that have to keep their transparency.
_TRANSPARENT = {name for name, build in ORIGINALS.items() if "transparen" in name or "alpha" in name}
_TRANSPARENT.remove("alpha_all_opaque")


@pytest.mark.parametrize("name", ORIGINALS)
async def test_every_thumbnail_looks_like_its_original(
    renderer: ChildRenderer, stored: New, name: str
) -> None:
    original = ORIGINALS[name]()
    height, width = original.colours.shape[:2]
    made = await renderer.thumbnails(stored(original.data))
    for each, side in zip(made, (150, 300, 600), strict=True):
        assert (each.width, each.height) == fitted(width, height, side)
        assert each.format is (RenditionFormat.PNG if name in _TRANSPARENT else RenditionFormat.JPEG)
        # The largest, of which the others are made, takes longest to compare: it is measured beside
        # them in tests/long/test_thumbnail_quality.py.
        if side < 600:
            likeness(each.content, original.colours, original.alpha).check(each.format)


@pytest.mark.parametrize(
    ("size", "side", "shrunk"),
    [
        ((4000, 3000), 600, (600, 450)),
        ((3000, 4000), 150, (112, 150)),
        ((1, 5000), 600, (1, 600)),
        ((5000, 1), 150, (150, 1)),
        ((600, 600), 600, (600, 600)),
        ((601, 600), 600, (600, 599)),
        ((7, 9), 150, (7, 9)),
    ],
)
def test_the_longest_side_is_shrunk_and_the_other_follows(
    size: tuple[int, int], side: int, shrunk: tuple[int, int]
) -> None:
    assert fitted(*size, side) == shrunk


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
async def test_sides_that_do_not_divide_move_nothing(renderer: ChildRenderer, stored: New, kind: str) -> None:
    """The far edges are where they are, though the sides of what was decoded are rounded up."""
    whole = scene(2401, 601)
    original = photos.encode(
        Image.fromarray((whole * 255).round().astype("uint8")),
        kind,
        **({"quality": 95, "subsampling": 0} if kind == "JPEG" else {}),
    )
    *_, large = await renderer.thumbnails(stored(original))
    with Image.open(io.BytesIO(large.content)) as image:
        shown = np.asarray(image, np.float64)[:, -60:] / 255
    expected = shrink(whole, large.width, large.height)[:, -60:]
    left, right = (np.abs(shown - np.roll(expected, by, 1))[:, 2:-2].mean() for by in (-1, 1))
    # As far from a picture that lies a pixel to the left as to the right: 0.0004. Stretched by what is
    # rounded up it is 0.008.
    assert abs(left - right) < 0.002


async def test_the_smallest_has_all_its_chroma_and_photographs_a_quarter_in_the_others(
    renderer: ChildRenderer, stored: New
) -> None:
    made = await renderer.thumbnails(stored(ORIGINALS["orientation_1"]().data))
    of_graphics = await renderer.thumbnails(stored(ORIGINALS["rgb_16_bits"]().data))
    assert [_chroma(each.content) for each in made] == [0x11, 0x22, 0x22]
    assert [_chroma(each.content) for each in of_graphics] == [0x11, 0x11, 0x11]


def _chroma(content: bytes) -> int:
    """Sampling factors of luma against chroma, as the frame header has them."""
    with Image.open(io.BytesIO(content)) as image:
        (_, across, down, _), *_ = image.layer  # type: ignore[attr-defined] # of JPEG alone
    return int(across << 4 | down)


async def test_the_same_original_gives_the_same_bytes_in_every_process(
    stored: New, renderer: ChildRenderer
) -> None:
    other = type(renderer)(size=1, seconds=60.0, memory_bytes=1 << 30)
    for data in (photos.jpeg(400, 300, quality=95), photos.png(8, 6), photos.png(4, 3)):
        original = stored(data)
        assert await other.thumbnails(original) == await renderer.thumbnails(original)
        assert await other.optimised(original) == await renderer.optimised(original)
    await other.aclose()


def test_references_are_not_fooled() -> None:
    """A picture against itself, and turned: what the thresholds stand between."""
    with io.BytesIO() as file:
        Image.fromarray((scene(300, 200) * 255).round().astype("uint8")).save(file, "PNG")
        content = file.getvalue()
    assert likeness(content, scene(300, 200)).ssim == pytest.approx(1.0, abs=1e-4)
    assert likeness(content, scene(300, 200)[:, ::-1]).ssim < 0.5

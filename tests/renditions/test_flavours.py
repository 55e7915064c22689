"""Whatever an upload may be, there are thumbnails of it."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from chitram.images.adapters.renderer.renderer import ChildRenderer
from chitram.images.domain.rendition import THUMBNAIL_SIDES, RenditionKind, fitted
from tests.renditions.conftest import New
from tests.support import photos

_ALL = {f"jpeg_{name}": build for name, build in photos.JPEGS.items()}
_ALL |= {f"png_{name}": build for name, build in photos.PNGS.items()}


@pytest.mark.parametrize("build", _ALL.values(), ids=_ALL.keys())
async def test_every_flavour_has_three_thumbnails_and_nothing_beside_their_pixels(
    renderer: ChildRenderer, stored: New, build: Callable[[], bytes]
) -> None:
    data = build()
    made = await renderer.thumbnails(stored(data))
    assert [each.kind for each in made] == list(THUMBNAIL_SIDES)
    with Image.open(io.BytesIO(data)) as original:
        size = original.size
    for each in made:
        with Image.open(io.BytesIO(each.content)) as image:
            image.load()
            assert image.format == each.format.value.upper()
            assert image.size == (each.width, each.height) == fitted(*size, THUMBNAIL_SIDES[each.kind])
            assert set(image.info) <= {
                "jfif",
                "jfif_version",
                "jfif_unit",
                "jfif_density",
                "progressive",
                "progression",
            }


@pytest.mark.parametrize("build", _ALL.values(), ids=_ALL.keys())
async def test_what_is_optimised_is_smaller_than_anything_else(
    renderer: ChildRenderer, stored: New, build: Callable[[], bytes]
) -> None:
    data = build()
    size = len(data)
    for each in await renderer.optimised(stored(data)):
        assert each.kind in {RenditionKind.OPTIMISED, RenditionKind.OPTIMISED_WEBP}
        assert len(each.content) < size
        size = len(each.content)


@pytest.mark.parametrize("colours", [2, 256], ids=["black and white", "all colours"])
@pytest.mark.parametrize("form", ["PNG", "JPEG"])
async def test_noise_takes_more_bytes_than_a_picture_and_has_everything_all_the_same(
    renderer: ChildRenderer, stored: New, form: str, colours: int
) -> None:
    """Of nothing else a JPEG has more bytes than pixels."""
    noise = np.random.default_rng(1).integers(0, colours, (600, 600, 3)) * (255 // (colours - 1))
    options = {"quality": 100, "subsampling": 0} if form == "JPEG" else {}
    data = photos.encode(Image.fromarray(noise.astype(np.uint8)), form, **options)
    largest = (await renderer.thumbnails(stored(data)))[-1]
    with Image.open(io.BytesIO(largest.content)) as image:
        image.load()
    made = await renderer.optimised(stored(data))
    if form == "JPEG":
        assert [each.kind for each in made] == [RenditionKind.OPTIMISED]

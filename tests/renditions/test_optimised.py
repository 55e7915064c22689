"""What is optimised looks the same, and is worth its bytes."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageDraw
from skimage.metrics import structural_similarity

from chitram.images.adapters.children.frames import ProtocolError
from chitram.images.adapters.renderer.checks import size_of
from chitram.images.adapters.renderer.renderer import ChildRenderer
from chitram.images.adapters.renderer.ssim import ssim
from chitram.images.domain.rendition import RenditionFormat, RenditionKind
from chitram.images.ports import Rendered
from tests.renditions.conftest import New, NewRenderer
from tests.support import photos
from tests.support.profiles import DISPLAY_P3

_SAME, _WEBP = RenditionKind.OPTIMISED, RenditionKind.OPTIMISED_WEBP


def _opened(content: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(content))
    image.load()
    return image


def _rgba(content: bytes) -> npt.NDArray[np.uint8]:
    return np.asarray(_opened(content).convert("RGBA"))


async def _optimised(renderer: ChildRenderer, stored: New, data: bytes) -> dict[RenditionKind, Rendered]:
    return {each.kind: each for each in await renderer.optimised(stored(data))}


def _letters() -> bytes:
    """Red on blue, which a quarter of the chroma makes bleed."""
    image = Image.new("RGB", (300, 200), (20, 20, 200))
    draw = ImageDraw.Draw(image)
    for top in range(0, 200, 12):
        draw.text((4, top), "The quick brown fox jumps over the lazy dog", fill=(220, 20, 20))
    return photos.encode(image, "PNG", compress_level=1)


def _few_colours() -> bytes:
    return photos.encode(photos.clean_photo("coffee.png").quantize(200).convert("RGBA"), "PNG")


@pytest.mark.parametrize(
    "build",
    [
        _letters,
        _few_colours,
        lambda: photos.png(8, 0),
        lambda: photos.png(8, 6),
        lambda: photos.png(8, 4),
        lambda: photos.png(4, 3, before=[photos.chunk(b"tRNS", bytes(range(0, 160, 10)))], interlace=True),
    ],
    ids=["letters", "few colours", "grey", "alpha", "grey alpha", "palette"],
)
async def test_a_png_stays_what_it_is_to_the_pixel(
    renderer: ChildRenderer, stored: New, build: Callable[[], bytes]
) -> None:
    made = await _optimised(renderer, stored, build())
    assert np.array_equal(_rgba(made[_SAME].content), _rgba(build()))


async def test_few_colours_become_a_palette(renderer: ChildRenderer, stored: New) -> None:
    made = await _optimised(renderer, stored, _few_colours())
    assert _opened(made[_SAME].content).mode == "P"


async def test_letters_in_colours_keep_their_edges(renderer: ChildRenderer, stored: New) -> None:
    """WebP has a quarter of the chroma for all pictures, JPEG as much as the original had."""
    data = photos.encode(_opened(_letters()), "JPEG", quality=97, subsampling=0)
    made = await _optimised(renderer, stored, data)
    assert _WEBP not in made
    chroma = [
        np.asarray(_opened(each).convert("YCbCr"), np.int16)[..., 1:] for each in (data, made[_SAME].content)
    ]
    assert np.abs(chroma[0] - chroma[1]).mean() < 3


async def test_a_photograph_loses_what_nobody_sees(renderer: ChildRenderer, stored: New) -> None:
    data = photos.encode(photos.clean_photo("coffee.png"), "JPEG", quality=97)
    for each in (await _optimised(renderer, stored, data)).values():
        luma = [np.asarray(_opened(content).convert("L")) for content in (data, each.content)]
        assert structural_similarity(*luma) > 0.975  # type: ignore[no-untyped-call] # has no types
        assert len(each.content) < 0.7 * len(data)


async def test_a_photograph_kept_without_loss_is_worth_losing_some(
    renderer: ChildRenderer, stored: New
) -> None:
    data = photos.original("coffee.png")
    made = await _optimised(renderer, stored, data)
    assert len(made[_WEBP].content) < len(data) / 4


async def test_a_file_that_has_lost_enough_is_left_alone(renderer: ChildRenderer, stored: New) -> None:
    data = photos.encode(photos.photo(400, 300), "JPEG", quality=60, optimize=True, progressive=True)
    assert RenditionKind.OPTIMISED not in await _optimised(renderer, stored, data)


async def test_colours_beyond_srgb_keep_their_profile_and_others_lose_it(
    renderer: ChildRenderer, stored: New
) -> None:
    photo, wide = photos.clean_photo("coffee.png"), DISPLAY_P3.profile()
    for given, kept in ((wide, wide), (photos.icc_profile(), None), (b"no profile", None)):
        data = photos.encode(photo, "JPEG", quality=97, icc_profile=given)
        made = await _optimised(renderer, stored, data)
        assert len(made) == 2
        assert [_opened(each.content).info.get("icc_profile") for each in made.values()] == [kept] * 2


async def test_an_optimised_picture_stands_upright(renderer: ChildRenderer, stored: New) -> None:
    data = photos.with_metadata(photos.encode(photos.clean_photo("coffee.png"), "JPEG", quality=97), 6)
    shown = _opened(data).convert("L").transpose(Image.Transpose.ROTATE_270)
    for each in (await _optimised(renderer, stored, data)).values():
        assert (each.width, each.height) == shown.size
        found = np.asarray(_opened(each.content).convert("L"), np.int16)
        assert np.abs(found - np.asarray(shown)).mean() < 3


async def test_sixteen_bits_are_not_cut_in_the_same_format(renderer: ChildRenderer, stored: New) -> None:
    assert set(await _optimised(renderer, stored, photos.png(16, 2))) == {_WEBP}


@pytest.mark.parametrize(
    "chunk", [photos.chunk(b"gAMA", b"\0\1\x86\xa0"), photos.chunk(b"cICP", bytes([12, 13, 0, 1]))]
)
async def test_colours_that_no_profile_describes_are_left_alone(
    renderer: ChildRenderer, stored: New, chunk: bytes
) -> None:
    assert await _optimised(renderer, stored, photos.with_chunks(photos.png(), chunk)) == {}


async def test_what_moves_is_left_alone(renderer: ChildRenderer, stored: New) -> None:
    frames = [Image.new("RGB", (400, 300), colour) for colour in ("red", "blue")]
    data = photos.encode(frames[0], "PNG", save_all=True, append_images=frames[1:])
    assert await _optimised(renderer, stored, data) == {}


async def test_more_than_sixteen_megapixels_are_not_even_tried(
    new_renderer: NewRenderer, stored: New
) -> None:
    renderer = new_renderer()
    assert await renderer.optimised(stored(photos.blank_png(4100, 1, 0))) == ()
    assert not any(pool.idle for pool in renderer._pools.values())


@pytest.mark.parametrize("side", [3, 9, 64, 301])
def test_similarity_is_that_of_the_paper(side: int) -> None:
    """Against another implementation, with the same windows; by its steps ours sees a part of them."""
    rng = np.random.default_rng(side)
    one = rng.integers(0, 256, (side, side), np.uint8)
    other = (one * 0.8 + rng.integers(0, 50, (side, side))).astype(np.uint8)
    assert ssim(one, one).min() == pytest.approx(1.0)
    if side > 8:
        theirs = structural_similarity(  # type: ignore[no-untyped-call] # has no types
            one[:8, :8], other[:8, :8], win_size=7, use_sample_covariance=False
        )
        assert ssim(one[:8, :8], other[:8, :8])[0, 0] == pytest.approx(theirs, abs=0.05)
        whole = structural_similarity(one, other)  # type: ignore[no-untyped-call] # has no types
        assert ssim(one, other).mean() == pytest.approx(whole, abs=0.05)


def _webp(**options: object) -> bytes:
    return photos.encode(photos.clean_photo("coffee.png").resize((60, 40)), "WEBP", **options)


@pytest.mark.parametrize(
    "options",
    [{}, {"lossless": True}, {"icc_profile": photos.icc_profile()}],
    ids=["lossy", "lossless", "profile"],
)
def test_the_size_of_a_webp_is_read(options: dict[str, object]) -> None:
    assert size_of(_webp(**options), RenditionFormat.WEBP) == (60, 40)


_FRAME = _webp()[12:]
_LIES = {
    "html": photos.HTML,
    "cut": _webp()[:-10],
    "html behind": _webp() + photos.HTML,
    "exif": _webp(exif=photos.exif()),
    "an animation": photos.encode(
        photos.photo(60, 40), "WEBP", save_all=True, append_images=[photos.photo(60, 40, "rocket.jpg")]
    ),
    "two pictures": b"RIFF" + (4 + 2 * len(_FRAME)).to_bytes(4, "little") + b"WEBP" + _FRAME * 2,
    "a canvas of another size": _webp(icc_profile=photos.icc_profile()).replace(
        (59).to_bytes(3, "little") + (39).to_bytes(3, "little"), bytes(6), 1
    ),
    "no key frame": _webp().replace(b"\x9d\x01\x2a", b"\0\0\0"),
    "no lossless picture": _webp(lossless=True).replace(b"\x2f", b"\0", 1),
}


@pytest.mark.parametrize("lie", _LIES.values(), ids=_LIES.keys())
def test_what_is_not_one_whole_webp_is_refused(lie: bytes) -> None:
    with pytest.raises(ProtocolError):
        size_of(lie, RenditionFormat.WEBP)

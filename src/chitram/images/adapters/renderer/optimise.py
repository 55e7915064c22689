"""The picture itself in fewer bytes, without a loss that can be seen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from PIL import Image

from chitram.images.adapters.renderer.colour import is_srgb, to_srgb
from chitram.images.adapters.renderer.encode import encoded
from chitram.images.adapters.renderer.likeness import looks_the_same, sample
from chitram.images.adapters.renderer.original import Original
from chitram.images.adapters.renderer.palette import fewest_colours
from chitram.images.adapters.renderer.protocol import Encoded
from chitram.images.adapters.renderer.thumbnails import upright
from chitram.images.domain.rendition import RenditionFormat, RenditionKind

# What saves less is not worth another file, nor a round trip for it.
WORTH = 0.95
# A picture is a photograph where being lossy saves at least this much of what being lossless takes.
_LOSSY_WORTH = 0.6
_QUALITIES = (68, 74, 79, 83, 86, 89, 92, 95)
# Levels of zlib: the hardest takes 55 s for 12 megapixels to save 6 % over the next in use, 7 s.
_HARDEST, _HARD = 9, 6
_HARDEST_PIXELS = 1_000_000
_MAX_WEBP_SIDE = 16_383

Lossy = Callable[[Image.Image, int], Encoded]


def optimised(original: Original, orientation: int) -> list[Encoded]:
    """Return what of the two optimised renditions is worth its bytes.

    The same original gives the same bytes every time: two workers may make the same one.
    """
    if original.is_animated or not original.has_known_colours:
        return []
    image, profile = _as_seen(original)
    image = upright(image, orientation)
    made: list[Encoded] = []
    best = original.byte_size
    for each in _candidates(original, image, profile):
        if len(each.content) <= WORTH * best:
            made.append(each)
            best = len(each.content)
    return made


def _as_seen(original: Original) -> tuple[Image.Image, bytes | None]:
    """Return the whole picture, and the profile that has to go with it.

    Colours beyond sRGB are kept, with their profile, for the screens that can show them; inks and
    greys that are not sRGB's are converted, for WebP has neither.
    """
    image, profile = original.whole(), original.profile
    if profile and image.mode in {"RGB", "RGBA"} and not is_srgb(profile):
        return image, profile
    return to_srgb(image, profile), None


def _candidates(original: Original, image: Image.Image, profile: bytes | None) -> Iterator[Encoded]:
    if original.is_jpeg:
        jpeg = partial(_jpeg, profile=profile, subsampling=original.subsampling)
        yield from _lossy(image, jpeg)
    elif not original.has_sixteen_bits:
        yield _png(image, profile)
    if max(image.size) <= _MAX_WEBP_SIDE:
        # WebP knows no grey.
        image = image.convert("RGBA") if image.mode == "LA" else image
        yield from _webp(image, profile, may_be_graphics=not original.is_jpeg)


def _webp(image: Image.Image, profile: bytes | None, *, may_be_graphics: bool) -> Iterator[Encoded]:
    """Yield the lossy or the lossless WebP, by what a sample says of the picture."""
    lossy = partial(_lossy_webp, profile=profile)
    if may_be_graphics:
        part = sample(image)
        quality = _quality(part, lossy)
        exact = len(_lossless_webp(part, profile).content)
        if quality is None or len(lossy(part, quality).content) > _LOSSY_WORTH * exact:
            yield _lossless_webp(image, profile)
            return
    yield from _lossy(image, lossy)


def _lossy(image: Image.Image, encode: Lossy) -> Iterator[Encoded]:
    """Yield the picture at the lowest quality that looks the same, if there is one.

    It is searched for on a sample; the whole has to pass as well, or the next quality has.
    """
    found = _quality(sample(image), encode)
    if found is None:
        return
    at = _QUALITIES.index(found)
    for quality in _QUALITIES[at : at + 2]:
        made = encode(image, quality)
        if looks_the_same(image, made.content):
            yield made
            return


def _quality(part: Image.Image, encode: Lossy) -> int | None:
    """Find the lowest quality at which a sample looks the same, by halves."""
    low, high = 0, len(_QUALITIES)
    while low < high:
        middle = (low + high) // 2
        if looks_the_same(part, encode(part, _QUALITIES[middle]).content):
            high = middle
        else:
            low = middle + 1
    return _QUALITIES[low] if low < len(_QUALITIES) else None


def _jpeg(image: Image.Image, quality: int, *, profile: bytes | None, subsampling: int) -> Encoded:
    return encoded(
        RenditionKind.OPTIMISED,
        image,
        RenditionFormat.JPEG,
        quality=quality,
        subsampling=subsampling,
        optimize=True,
        progressive=True,
        icc_profile=profile,
    )


def _png(image: Image.Image, profile: bytes | None) -> Encoded:
    return encoded(
        RenditionKind.OPTIMISED,
        fewest_colours(image),
        RenditionFormat.PNG,
        compress_level=_HARDEST if image.width * image.height <= _HARDEST_PIXELS else _HARD,
        icc_profile=profile,
    )


def _lossy_webp(image: Image.Image, quality: int, *, profile: bytes | None) -> Encoded:
    return encoded(
        RenditionKind.OPTIMISED_WEBP,
        image,
        RenditionFormat.WEBP,
        quality=quality,
        method=4,
        icc_profile=profile,
    )


def _lossless_webp(image: Image.Image, profile: bytes | None) -> Encoded:
    return encoded(
        RenditionKind.OPTIMISED_WEBP,
        image,
        RenditionFormat.WEBP,
        lossless=True,
        exact=True,
        quality=50,
        method=3,
        icc_profile=profile,
    )

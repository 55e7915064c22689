"""The picture itself in fewer bytes."""

from __future__ import annotations

from chitram.images.adapters.renderer.colour import to_srgb
from chitram.images.adapters.renderer.encode import encoded
from chitram.images.adapters.renderer.original import Original
from chitram.images.adapters.renderer.protocol import Encoded
from chitram.images.adapters.renderer.thumbnails import upright
from chitram.images.domain.rendition import RenditionFormat, RenditionKind

# What saves less is not worth a second file.
_MOST = 0.95
_MAX_WEBP_SIDE = 16_383


def optimised(original: Original, orientation: int) -> list[Encoded]:
    """Return what of the two optimised renditions is worth its bytes."""
    image = upright(to_srgb(original.whole(), original.profile), orientation)
    made: list[Encoded] = []
    best = original.byte_size
    if original.is_jpeg:
        same = encoded(
            RenditionKind.OPTIMISED, image, RenditionFormat.JPEG, quality=82, optimize=True, progressive=True
        )
    else:
        same = encoded(RenditionKind.OPTIMISED, image, RenditionFormat.PNG, optimize=True)
    candidates = [same]
    if max(image.size) <= _MAX_WEBP_SIDE:
        candidates.append(encoded(RenditionKind.OPTIMISED_WEBP, image, RenditionFormat.WEBP, quality=82))
    for each in candidates:
        if len(each.content) <= _MOST * best:
            made.append(each)
            best = len(each.content)
    return made

"""Which format a file's first bytes say it is."""

from __future__ import annotations

import puremagic

from chitram.images.adapters.decoder.refusals import not_accepted
from chitram.images.adapters.decoder.source import Source
from chitram.images.domain.image import ImageFormat

# Signatures: ITU-T T.81 B.1.1.3 (SOI and the first byte of any marker), PNG 5.2.
_SIGNATURES = {b"\xff\xd8\xff": ImageFormat.JPEG, b"\x89PNG\r\n\x1a\n": ImageFormat.PNG}
_MEDIA_TYPES = frozenset(each.media_type for each in ImageFormat)
# As far as `puremagic` looks to name what is refused.
_HEAD_BYTES = 64 * 1024


def image_format(data: Source, allowed: tuple[ImageFormat, ...]) -> ImageFormat:
    """Return the format that the signature shows; raises `InvalidFileFormat` when it is not allowed."""
    for signature, found in _SIGNATURES.items():
        if data[: len(signature)] == signature:
            if found in allowed:
                return found
            raise not_accepted(found.media_type, allowed)
    raise not_accepted(_name(data[:_HEAD_BYTES]), allowed)


def _name(head: bytes) -> str:
    """Name the type of a file without an accepted signature, as well as its first bytes tell."""
    if not head:
        return "empty"
    try:
        best = puremagic.magic_string(head)[0]
    except (puremagic.PureError, ValueError, IndexError):
        return "unknown"
    named = str(best.mime_type or best.name)[:100]
    return "unknown" if named in _MEDIA_TYPES else named

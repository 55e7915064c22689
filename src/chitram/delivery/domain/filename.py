"""What a rendition is called by those who save it."""

from __future__ import annotations

# As long as a name may be on common file systems, and in our answers.
_MAX_BYTES = 255
# The first is given, the others are as good.
_ENDINGS = {
    "image/jpeg": ("jpg", "jpeg", "jpe", "jfif"),
    "image/png": ("png",),
    "image/webp": ("webp",),
}
_KNOWN = frozenset(ending for endings in _ENDINGS.values() for ending in endings)


def named_as(filename: str, media_type: str) -> str:
    """Give the name of an image the ending of what it was turned into.

    Only the ending of a picture is replaced; any other belongs to the name. At most 255 bytes.
    """
    endings = _ENDINGS[media_type]
    stem, _, ending = filename.rpartition(".")
    if ending.lower() in endings and stem:
        return filename
    if ending.lower() not in _KNOWN or not stem:
        stem = filename
    room = _MAX_BYTES - len(endings[0]) - 1
    return f"{stem.encode()[:room].decode(errors='ignore')}.{endings[0]}"

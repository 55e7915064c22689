"""How images are kept in the shared cache."""

from __future__ import annotations

from chitram.images.public import ImageView
from chitram.platform.shared_cache.codec import Codec
from chitram.platform.shared_cache.entries import SharedEntries
from chitram.platform.valkey import ValkeyGuard

CHANNEL = "chitram:metadata:invalid"
PREFIX = "chitram:metadata"
# Raised by hand when a field of the view keeps its type and changes its meaning.
_MEANING = 1

CODEC = Codec(ImageView, _MEANING)

SharedImages = SharedEntries[ImageView]


def shared_images(guard: ValkeyGuard, seconds: int) -> SharedImages:
    """The images of a deployment in Valkey, each for so many seconds."""
    return SharedEntries(
        guard, PREFIX, CODEC, seconds=seconds, version_of=lambda view: view.version, channel=CHANNEL
    )

"""How images are kept in the shared cache."""

from __future__ import annotations

from chitram.images.public import ImageView, Processing
from chitram.platform.shared_cache.codec import Codec
from chitram.platform.shared_cache.entries import SharedEntries
from chitram.platform.valkey import ValkeyGuard

CHANNEL = "chitram:metadata:invalid"
PREFIX = "chitram:metadata"
# Raised by hand when a field of the view keeps its type and changes its meaning.
_MEANING = 1
# A worker that ends between committing what it made and telling the caches leaves clients waiting
# for no longer than this.
_UNFINISHED_SECONDS = 2

CODEC = Codec(ImageView, _MEANING)

SharedImages = SharedEntries[ImageView]


def shared_images(guard: ValkeyGuard, seconds: int) -> SharedImages:
    """The images of a deployment in Valkey, each for so many seconds once all is made of it."""
    return SharedEntries(
        guard,
        PREFIX,
        CODEC,
        seconds=seconds,
        seconds_of=lambda view: None if _is_finished(view) else _UNFINISHED_SECONDS,
        version_of=lambda view: view.version,
        channel=CHANNEL,
    )


def _is_finished(view: ImageView) -> bool:
    """Whether no rendition is on its way; what failed waits for somebody to say otherwise."""
    is_ready = view.processing == Processing.READY and view.optimised
    return is_ready or view.processing == Processing.FAILED

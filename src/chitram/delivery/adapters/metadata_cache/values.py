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
# A worker that ends between committing what it made and telling the caches leaves clients waiting for
# thumbnails for no longer than the first. The second is only about how large a file is.
_WITHOUT_THUMBNAILS_SECONDS = 2
_NOT_OPTIMISED_SECONDS = 60

CODEC = Codec(ImageView, _MEANING)

SharedImages = SharedEntries[ImageView]


def shared_images(guard: ValkeyGuard, seconds: int) -> SharedImages:
    """The images of a deployment in Valkey, each for so many seconds once all is made of it."""
    return SharedEntries(
        guard,
        PREFIX,
        CODEC,
        seconds=seconds,
        seconds_of=_life_of,
        version_of=lambda view: view.version,
        channel=CHANNEL,
    )


def _life_of(view: ImageView) -> int | None:
    """For how long, when a rendition is on its way; what failed waits for somebody to say otherwise."""
    if view.processing == Processing.PENDING:
        return _WITHOUT_THUMBNAILS_SECONDS
    return None if view.optimised or view.processing == Processing.FAILED else _NOT_OPTIMISED_SECONDS

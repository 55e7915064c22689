"""Refusals that only reading can end in."""

from __future__ import annotations

from chitram.kernel.errors import Category, ChitramError


class ThumbnailNotReady(ChitramError):
    """The image exists but this thumbnail of it does not yet."""

    code = "THUMBNAIL_NOT_READY"
    category = Category.NOT_FOUND
    default_message = "The thumbnail has not been made yet. Try again shortly."


class RenditionNotReady(ChitramError):
    """The image exists but nobody has seen yet in how few bytes it can be shown."""

    code = "RENDITION_NOT_READY"
    category = Category.NOT_FOUND
    default_message = "The image has not been optimised yet. Try again shortly."

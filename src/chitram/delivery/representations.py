"""What of an image can be sent, and which of it a request gets."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec

from chitram.delivery.domain.errors import RenditionNotReady, ThumbnailNotReady
from chitram.delivery.domain.filename import named_as
from chitram.images.public import ImageView, Processing, RenditionKind, RenditionView, blob_key, rendition_key

_RETRY_THUMBNAIL_SECONDS = 2
# Optimising waits behind the thumbnails of everybody.
_RETRY_OPTIMISED_SECONDS = 5


class Representation(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes that show an image, and where they lie.

    Attributes:
        blob_id: the blob they are of.
        shard: name of the store that has them.
        key: of their object in it.
        media_type: what they are.
        size: length in bytes.
        checksum: SHA-256 in hex.
        last_modified: aware time since when they show this image.
        filename: what they are called.
    """

    blob_id: UUID
    shard: str
    key: str
    media_type: str
    size: int
    checksum: str
    last_modified: datetime
    filename: str


def original(view: ImageView) -> Representation:
    """The stored file of an image."""
    return Representation(
        blob_id=view.blob_id,
        shard=view.shard,
        key=blob_key(view.blob_id),
        media_type=view.content_type,
        size=view.file_size,
        checksum=view.checksum,
        last_modified=view.created_at,
        filename=view.filename,
    )


def thumbnail(view: ImageView, kind: RenditionKind) -> Representation:
    """A thumbnail of an image. Raises `ThumbnailNotReady`."""
    if made := _find(view, kind):
        return _rendition(view, made)
    if view.processing == Processing.FAILED:
        raise ThumbnailNotReady("No thumbnail could be made of this image.", details=_processing(view))
    raise ThumbnailNotReady(details=_processing(view), retry_after=_RETRY_THUMBNAIL_SECONDS)


def optimised(view: ImageView, *, takes_webp: bool) -> Representation:
    """An image in the fewest bytes for who takes these formats; raises `RenditionNotReady`.

    That may be the stored file: not every picture can be told in fewer bytes, or be read by who
    makes renditions.
    """
    if not view.optimised and view.processing != Processing.FAILED:
        raise RenditionNotReady(details=_processing(view), retry_after=_RETRY_OPTIMISED_SECONDS)
    if takes_webp and (webp := _find(view, RenditionKind.OPTIMISED_WEBP)):
        return _rendition(view, webp)
    smaller = _find(view, RenditionKind.OPTIMISED)
    return _rendition(view, smaller) if smaller else original(view)


def _processing(view: ImageView) -> dict[str, str]:
    return {"processing": view.processing}


def _find(view: ImageView, kind: RenditionKind) -> RenditionView | None:
    return next((made for made in view.renditions if made.kind == kind), None)


def _rendition(view: ImageView, made: RenditionView) -> Representation:
    return Representation(
        blob_id=view.blob_id,
        shard=view.shard,
        key=rendition_key(view.blob_id, RenditionKind(made.kind), made.recipe),
        media_type=made.content_type,
        size=made.file_size,
        checksum=made.checksum,
        # Nobody is told that somebody had the same picture before them.
        last_modified=max(made.created_at, view.created_at),
        filename=named_as(view.filename, made.content_type),
    )

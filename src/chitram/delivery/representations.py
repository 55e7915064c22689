"""What of an image can be sent, and which of it a request gets."""

from __future__ import annotations

from datetime import datetime
from functools import cached_property
from uuid import UUID

import msgspec

from chitram.delivery.domain.content_disposition import content_disposition
from chitram.delivery.domain.dates import http_date
from chitram.delivery.domain.errors import RenditionNotReady, ThumbnailNotReady
from chitram.delivery.domain.filename import named_as
from chitram.images.public import ImageView, Processing, RenditionKind, RenditionView, blob_key, rendition_key

_RETRY_THUMBNAIL_SECONDS = 2
# Optimising waits behind the thumbnails of everybody.
_RETRY_OPTIMISED_SECONDS = 5
# Whatever else the bytes may be taken for, nothing in them runs, loads or is framed with rights.
_INERT = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'; sandbox"),
    (b"cross-origin-resource-policy", b"cross-origin"),
)

Headers = tuple[tuple[bytes, bytes], ...]


# `dict` is where what is made of it once is kept.
class Representation(msgspec.Struct, frozen=True, kw_only=True, dict=True):
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

    @cached_property
    def etag(self) -> str:
        """Strong entity tag with its quotes."""
        return f'"{self.checksum}"'

    @cached_property
    def validators(self) -> Headers:
        """The fields by which a client tells whether it has these bytes."""
        return (
            (b"etag", self.etag.encode()),
            (b"last-modified", http_date(self.last_modified).encode()),
        )

    @cached_property
    def description(self) -> Headers:
        """The fields of an answer with these bytes, or any part of them, whoever sends it."""
        return (
            (b"content-disposition", content_disposition("inline", self.filename).encode()),
            *self.validators,
            *_INERT,
        )

    @cached_property
    def whole(self) -> Headers:
        """The fields of an answer with all of these bytes, sent from here."""
        return (
            (b"content-type", self.media_type.encode()),
            *self.description,
            (b"content-length", str(self.size).encode()),
            (b"accept-ranges", b"bytes"),
        )


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

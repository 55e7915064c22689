"""What can be asked about images, and the frozen views that answer."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol
from uuid import UUID

import msgspec

from chitram.images.domain.image import Blob, Image


class ImageView(msgspec.Struct, frozen=True):
    """Everything that reading an image needs, from one row.

    `width` and `height` are null for images from before they were recorded. `checksum` is the
    SHA-256 of the stored bytes in hex, `version` grows with every change of the row.
    """

    id: UUID
    blob_id: UUID
    shard: str
    owner_id: UUID | None
    filename: str
    content_type: str
    file_size: int
    width: int | None
    height: int | None
    checksum: str
    visibility: str
    expires_at: datetime | None
    created_at: datetime
    updated_at: datetime
    version: int


class ImageQueries(Protocol):
    """Reads of images; raises `DatabaseUnavailable`."""

    async def find(self, image_id: UUID) -> ImageView | None:
        """The image, whether or not its time is up and whoever asks; None when there is none."""
        ...


class BlobPlaces(Protocol):
    """Where blobs are now, whatever a cache or a replica says; raises `DatabaseUnavailable`."""

    async def shard_of(self, blob_id: UUID) -> str | None:
        """The store of a live blob's object; None when the blob is gone or being deleted."""
        ...


def view_of(image: Image, blob: Blob) -> ImageView:
    """The view of an image whose entities are at hand."""
    return ImageView(
        id=image.id,
        blob_id=blob.id,
        shard=blob.shard,
        owner_id=image.owner_id,
        filename=image.filename,
        content_type=blob.format.media_type,
        file_size=blob.byte_size,
        width=blob.width,
        height=blob.height,
        checksum=blob.sha256.hex(),
        visibility=image.visibility.value,
        expires_at=image.expires_at,
        created_at=image.created_at,
        updated_at=image.updated_at,
        version=image.version,
    )

"""What can be asked about images, and the frozen views that answer."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

import msgspec

from chitram.images.domain.image import Blob, Image
from chitram.images.domain.rendition import Rendition


class RenditionView(msgspec.Struct, frozen=True, array_like=True):
    """A rendition of an image: sides in pixels, size in bytes, SHA-256 in hex, when it was made."""

    kind: str
    recipe: int
    content_type: str
    width: int
    height: int
    file_size: int
    checksum: str
    created_at: datetime


class ImageView(msgspec.Struct, frozen=True):
    """Everything that reading an image needs, from one row.

    `width` and `height` are null for images from before they were recorded. `optimised` says that
    there will be no more optimised renditions than there are. `checksum` is the
    SHA-256 of the stored bytes in hex, `version` grows with every change of the row and of what its
    blob has of renditions.
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
    processing: str = "pending"
    optimised: bool = False
    renditions: tuple[RenditionView, ...] = ()


class ListedImages(msgspec.Struct, frozen=True, kw_only=True):
    """Which images a list has; None is no condition.

    Attributes:
        owner_id: whose; None is everybody's, and nobody's.
        before: only those that come after this one in the list: older ones.
        created_after: only those made later.
        created_before: only those made earlier.
        now: what has expired by then is left out.
    """

    owner_id: UUID | None
    now: datetime
    before: UUID | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    content_type: str | None = None
    visibility: str | None = None


class FoundImages(msgspec.Struct, frozen=True):
    """Images of a list, newest first.

    Attributes:
        looked_at: the oldest that was looked at, where the search for a rare sort was ended; None when
            there is nothing more, or what was asked for is complete.
    """

    images: Sequence[ImageView]
    looked_at: UUID | None = None


class ImageQueries(Protocol):
    """Reads of images; raises `DatabaseUnavailable`."""

    async def find(self, image_id: UUID) -> ImageView | None:
        """The image, whether or not its time is up and whoever asks; None when there is none."""
        ...


class ImageLists(Protocol):
    """Lists of images; raises `DatabaseUnavailable`."""

    async def newest(self, wanted: ListedImages, limit: int) -> FoundImages:
        """The newest images that are wanted, `limit` at most, and fewer where they are rare."""
        ...


class BlobPlaces(Protocol):
    """Where blobs are now, whatever a cache or a replica says; raises `DatabaseUnavailable`."""

    async def shard_of(self, blob_id: UUID) -> str | None:
        """The store of a live blob's object; None when the blob is gone or being deleted."""
        ...


class ImageTrace(msgspec.Struct, frozen=True, kw_only=True):
    """What rows know of an image id; all null when there is no such image any more.

    Attributes:
        has_key: whether an idempotency key leads to it.
        uploads: direct uploads that it was made of, or that have this id.
    """

    blob_id: UUID | None
    visibility: str | None
    owner_id: UUID | None
    created_at: datetime | None
    has_key: bool
    uploads: tuple[UUID, ...]


class BlobTrace(msgspec.Struct, frozen=True, kw_only=True):
    """A blob's row: how many images show it, and the names of its renditions."""

    id: UUID
    shard: str
    state: str
    processing: str
    verified_at: datetime | None
    damaged_at: datetime | None
    images: int
    renditions: tuple[str, ...]


class DamageView(msgspec.Struct, frozen=True, kw_only=True):
    """A live blob that is damaged or missing: since when that is known, how many images show it."""

    id: UUID
    shard: str
    damaged_at: datetime
    images: int


class Traces(Protocol):
    """What is left of anything, read on the primary; raises `DatabaseUnavailable`."""

    async def image(self, image_id: UUID) -> ImageTrace: ...

    async def blob(self, blob_id: UUID) -> BlobTrace | None: ...

    async def damaged(self, limit: int) -> Sequence[DamageView]:
        """Blobs that are known to be damaged, for the longest time first."""
        ...


def rendition_view(rendition: Rendition) -> RenditionView:
    """The view of a rendition."""
    return RenditionView(
        kind=rendition.kind.value,
        recipe=rendition.recipe,
        content_type=rendition.format.media_type,
        width=rendition.width,
        height=rendition.height,
        file_size=rendition.byte_size,
        checksum=rendition.sha256.hex(),
        created_at=rendition.created_at,
    )


def view_of(image: Image, blob: Blob, renditions: Sequence[Rendition] = ()) -> ImageView:
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
        processing=blob.processing.value,
        optimised=blob.optimised,
        renditions=tuple(map(rendition_view, renditions)),
    )

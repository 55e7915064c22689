"""Images and the blobs they show."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from chitram.images.domain.rendition import Processing


class ImageFormat(StrEnum):
    """An image format that may be stored."""

    JPEG = "jpeg"
    PNG = "png"

    @property
    def media_type(self) -> str:
        """The registered media type."""
        return f"image/{self.value}"

    @property
    def extension(self) -> str:
        """The usual file name extension, without the dot."""
        return "jpg" if self is ImageFormat.JPEG else self.value


class Visibility(StrEnum):
    """Who may see an image."""

    PUBLIC = "public"
    UNLISTED = "unlisted"
    PRIVATE = "private"


class BlobState(StrEnum):
    """Life of one generation of a content; a blob being deleted is never revived."""

    LIVE = "live"
    DELETING = "deleting"


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """One generation of stored bytes.

    Attributes:
        sha256: digest of the stored bytes, 32 bytes.
        byte_size: length of the stored bytes.
        width: pixels across as displayed; None for a row older than this column.
        height: pixels down as displayed; None likewise.
        shard: name of the object store that holds it.
        processing: how far its thumbnails are.
        thumbnails_recipe: by which its thumbnails were made, or failed to be; None before the first.
        optimised_recipe: by which its optimised renditions were made, or found not to be worth it.
        is_damaged: whether its object was found to be missing or not what was stored.
    """

    id: UUID
    sha256: bytes
    byte_size: int
    format: ImageFormat
    width: int | None
    height: int | None
    shard: str
    state: BlobState = BlobState.LIVE
    processing: Processing = Processing.PENDING
    thumbnails_recipe: int | None = None
    optimised_recipe: int | None = None
    is_damaged: bool = False

    @property
    def optimised(self) -> bool:
        """Whether all is made of it that is worth making."""
        return self.optimised_recipe is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """What a person uploaded: a name and rules over a blob.

    Attributes:
        filename: sanitised, at most 255 bytes of UTF-8.
        delete_token_hash: SHA-256 of the token, for anonymous uploads.
        delete_token_expires_at: when the token stops working; None is never.
        expires_at: when the image itself goes; None is never.
        upload_address: network address the upload came from.
        version: grows with every change of the row.
    """

    id: UUID
    blob_id: UUID
    filename: str
    visibility: Visibility
    created_at: datetime
    updated_at: datetime
    owner_id: UUID | None = None
    delete_token_hash: bytes | None = None
    delete_token_expires_at: datetime | None = None
    expires_at: datetime | None = None
    upload_address: str | None = None
    version: int = 1

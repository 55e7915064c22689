"""What other modules may use of images."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from uuid import UUID

import msgspec

from chitram.images.domain.errors import ImageNotFound, UploadNotFound
from chitram.images.domain.keys import blob_key, blob_of_key, rendition_key
from chitram.images.domain.policies import has_expired, may_see
from chitram.images.domain.rendition import THUMBNAIL_SIDES, Processing, RenditionKind
from chitram.images.domain.work import IMAGE_ID, PURGE_IMAGE, VERSION
from chitram.images.ports import ImageCaches
from chitram.images.queries import BlobPlaces, ImageQueries, ImageView, RenditionView
from chitram.images.use_cases.ownership import record_oversight, require_owner
from chitram.kernel.versions import GONE, UNKNOWN

__all__ = [
    "GONE",
    "IMAGE_ID",
    "PURGE_IMAGE",
    "THUMBNAIL_SIDES",
    "UNKNOWN",
    "VERSION",
    "BlobPlaces",
    "ImageBody",
    "ImageCaches",
    "ImageNotFound",
    "ImageQueries",
    "ImageView",
    "Processing",
    "RenditionKind",
    "RenditionView",
    "ThumbnailBody",
    "blob_key",
    "blob_of_key",
    "has_expired",
    "image_body",
    "image_path",
    "may_see",
    "parse_image_id",
    "parse_upload_id",
    "record_oversight",
    "rendition_key",
    "require_owner",
]


_ID_CHARACTERS = 36
_SIZES = tuple(kind.value for kind in THUMBNAIL_SIDES)


class ThumbnailBody(msgspec.Struct, frozen=True):
    """One thumbnail: sides in pixels, size in bytes."""

    url: str
    width: int
    height: int
    file_size: int


class ImageBody(msgspec.Struct, frozen=True, kw_only=True):
    """An image as clients see it. Sizes are bytes, times UTC, `checksum` is SHA-256 in hex.

    `width` and `height` are pixels as displayed; null for an image from before they were recorded.
    """

    id: UUID
    filename: str
    content_type: str
    file_size: int
    width: int | None
    height: int | None
    checksum: str
    visibility: str
    url: str
    processing: str
    thumbnail_ready: bool
    thumbnail_url: str | None
    thumbnails: dict[str, ThumbnailBody]
    owner_id: UUID | None
    expires_at: datetime | None
    created_at: datetime
    updated_at: datetime


def parse_image_id(text: str) -> UUID:
    """Read the id of a path. What is no UUID is no image's id: raises `ImageNotFound`."""
    if (image_id := _canonical(text)) is None:
        raise ImageNotFound
    return image_id


def parse_upload_id(text: str) -> UUID:
    """Read the id of a direct upload from a path. Raises `UploadNotFound`."""
    if (upload_id := _canonical(text)) is None:
        raise UploadNotFound
    return upload_id


def _canonical(text: str) -> UUID | None:
    """Read a UUID; None for anything else.

    Braces, "urn:uuid:" and missing hyphens would give one image many addresses in caches.
    """
    return _read_id(text) if len(text) == _ID_CHARACTERS else None


@lru_cache(4096)
def _read_id(text: str) -> UUID | None:
    """Read what is as long as a UUID; a few images are most of what is asked for."""
    try:
        found = UUID(text)
    except ValueError:
        return None
    return found if str(found) == text.lower() else None


def image_path(image_id: UUID) -> str:
    """Where an image's metadata is."""
    return f"/api/v1/images/{image_id}"


def image_body(view: ImageView) -> ImageBody:
    """Turn a view into the body that clients get."""
    path = image_path(view.id)
    is_ready = view.processing == Processing.READY
    return ImageBody(
        id=view.id,
        filename=view.filename,
        content_type=view.content_type,
        file_size=view.file_size,
        width=view.width,
        height=view.height,
        checksum=view.checksum,
        visibility=view.visibility,
        url=f"{path}/file",
        processing=view.processing,
        thumbnail_ready=is_ready,
        thumbnail_url=f"{path}/thumbnail" if is_ready else None,
        thumbnails=_thumbnails(view, path),
        owner_id=view.owner_id,
        expires_at=view.expires_at,
        created_at=view.created_at,
        updated_at=view.updated_at,
    )


def _thumbnails(view: ImageView, path: str) -> dict[str, ThumbnailBody]:
    """The thumbnails that are there, by the name of their size, smallest first."""
    made = {rendition.kind: rendition for rendition in view.renditions}
    return {
        size: ThumbnailBody(
            url=f"{path}/thumbnail?size={size}",
            width=found.width,
            height=found.height,
            file_size=found.file_size,
        )
        for size in _SIZES
        if (found := made.get(size))
    }

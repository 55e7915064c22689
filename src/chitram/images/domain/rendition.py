"""Renditions: other shapes of a blob's picture, made once for all images that show it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID


class RenditionFormat(StrEnum):
    """What a rendition may be encoded as."""

    JPEG = "jpeg"
    PNG = "png"
    WEBP = "webp"

    @property
    def media_type(self) -> str:
        """The registered media type."""
        return f"image/{self.value}"


class RenditionKind(StrEnum):
    """The three thumbnails, and the picture itself in fewer bytes.

    `OPTIMISED` has the format of the original, `OPTIMISED_WEBP` is for clients that take WebP.
    Either is there only where it is smaller than everything that could be sent in its place.
    """

    SMALL = "small"
    MEDIUM = "medium"
    LARGE = "large"
    OPTIMISED = "optimised"
    OPTIMISED_WEBP = "optimised_webp"


# Longest side of each thumbnail in pixels; a smaller picture is not enlarged.
THUMBNAIL_SIDES: Final = {RenditionKind.SMALL: 150, RenditionKind.MEDIUM: 300, RenditionKind.LARGE: 600}
OPTIMISED_KINDS: Final = (RenditionKind.OPTIMISED, RenditionKind.OPTIMISED_WEBP)
# Pictures of more pixels get no optimised rendition.
OPTIMISED_MAX_PIXELS: Final = 16_000_000
# Raised whenever the same original would give other bytes: what older recipes made is made again.
THUMBNAILS_RECIPE: Final = 2
OPTIMISED_RECIPE: Final = 1


class RenditionSort(StrEnum):
    """Renditions that are made together and by one recipe."""

    THUMBNAILS = "thumbnails"
    OPTIMISED = "optimised"

    @property
    def kinds(self) -> tuple[RenditionKind, ...]:
        """What belongs to it."""
        return tuple(THUMBNAIL_SIDES) if self is RenditionSort.THUMBNAILS else OPTIMISED_KINDS

    @property
    def recipe(self) -> int:
        """The recipe by which it is made today."""
        return THUMBNAILS_RECIPE if self is RenditionSort.THUMBNAILS else OPTIMISED_RECIPE


def recipe_of(kind: RenditionKind) -> int:
    """The recipe by which renditions of a kind are made today."""
    return THUMBNAILS_RECIPE if kind in THUMBNAIL_SIDES else OPTIMISED_RECIPE


def fitted(width: int, height: int, side: int) -> tuple[int, int]:
    """Size of a picture of `width` x `height` pixels shrunk to a longest side of `side`.

    It is never enlarged, and no side gets below one pixel.
    """
    longest = max(width, height)
    if longest <= side:
        return width, height
    return max(1, round(width * side / longest)), max(1, round(height * side / longest))


class Processing(StrEnum):
    """How far the thumbnails of a blob are."""

    PENDING = "pending"
    READY = "ready"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendition:
    """One rendition that is there.

    Attributes:
        recipe: version of the recipe that made it.
        width: pixels across.
        height: pixels down.
        byte_size: length in bytes.
        sha256: digest of its bytes, 32 bytes.
        created_at: when these bytes were made; another recipe makes others later.
    """

    blob_id: UUID
    kind: RenditionKind
    recipe: int
    format: RenditionFormat
    width: int
    height: int
    byte_size: int
    sha256: bytes
    created_at: datetime

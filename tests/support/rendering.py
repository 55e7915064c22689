"""Stand-ins for what makes renditions, and for whom damage is told."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from chitram.images.domain.content import Received
from chitram.images.domain.image import Blob
from chitram.images.domain.rendition import (
    THUMBNAIL_SIDES,
    Rendition,
    RenditionFormat,
    RenditionKind,
    RenditionSort,
)
from chitram.images.ports import MadeRenditions, Rendered


def made_of(blob_id: UUID, sort: RenditionSort, *made: Rendition, **fields: Any) -> MadeRenditions:
    """Renditions to be recorded, of which nothing follows unless told otherwise."""
    given: dict[str, Any] = {
        "blob_id": blob_id,
        "shard": "local",
        "sort": sort,
        "made": made,
        "at": datetime.now(UTC),
        "settled": (),
        "owed": None,
        "same_as": (),
        "most_images": 10,
        "drop_after": timedelta(minutes=5),
    }
    return MadeRenditions(**(given | fields))


class FakeRenderer:
    """Makes renditions whose bytes name the original, unless told to fail.

    Attributes:
        error: raised by every call while it is set.
        worth: kinds of optimised renditions that are made.
        called: how often it was asked.
    """

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.worth: Sequence[RenditionKind] = (RenditionKind.OPTIMISED, RenditionKind.OPTIMISED_WEBP)
        self.called = 0

    async def thumbnails(self, original: Received) -> Sequence[Rendered]:
        return self._make(original, [*THUMBNAIL_SIDES])

    async def optimised(self, original: Received) -> Sequence[Rendered]:
        return self._make(original, self.worth)

    def _make(self, original: Received, kinds: Sequence[RenditionKind]) -> Sequence[Rendered]:
        self.called += 1
        if self.error:
            raise self.error
        return [
            Rendered(
                kind=kind,
                format=RenditionFormat.WEBP,
                width=4,
                height=3,
                content=f"{kind.value} of {original.sha256.hex()}".encode(),
            )
            for kind in kinds
        ]


class FakeDamage:
    """Remembers what was reported, as pairs of blob and SHA-256."""

    def __init__(self) -> None:
        self.reports: list[tuple[UUID, bytes | None]] = []

    def damaged(self, blob: Blob, found: bytes | None) -> None:
        self.reports.append((blob.id, found))

"""Many images at once, made by SQL over a few blobs."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import asyncpg

from chitram.images.domain.rendition import OPTIMISED_RECIPE, THUMBNAILS_RECIPE
from chitram.kernel.ids import new_id


@dataclass(frozen=True, slots=True)
class MadeImage:
    """An image that is there, and the token that deletes it."""

    id: UUID
    token: str

    @property
    def path(self) -> str:
        return f"/api/v1/images/{self.id}"


async def make_images(
    database_url: str, count: int, *, blobs: int = 4, shard: str = "local"
) -> Sequence[MadeImage]:
    """Add so many images, evenly over new blobs that are processed and whose objects do not exist."""
    now = datetime.now(UTC)
    blob_ids = [new_id(now) for _ in range(blobs)]
    images = [MadeImage(new_id(now), secrets.token_urlsafe(32)) for _ in range(count)]
    connection = await asyncpg.connect(database_url)
    try:
        await connection.executemany(
            "INSERT INTO blobs (id, sha256, byte_size, format, width, height, shard, state,"
            "                   processing, thumbnails_recipe, optimised_recipe)"
            " VALUES ($1, $2, 1000, 'jpeg', 64, 48, $3, 'live', 'ready', $4, $5)",
            [
                (blob_id, secrets.token_bytes(32), shard, THUMBNAILS_RECIPE, OPTIMISED_RECIPE)
                for blob_id in blob_ids
            ],
        )
        await connection.executemany(
            "INSERT INTO images"
            " (id, blob_id, filename, visibility, delete_token_hash, created_at, updated_at)"
            " VALUES ($1, $2, 'made.jpg', 'unlisted', $3, $4, $4)",
            [
                (image.id, blob_ids[number % blobs], hashlib.sha256(image.token.encode()).digest(), now)
                for number, image in enumerate(images)
            ],
        )
    finally:
        await connection.close()
    return images

"""What the rows still say of an image, for administrators; always on the primary."""

from __future__ import annotations

from uuid import UUID

from chitram.images.queries import BlobTrace, DamageView, ImageTrace
from chitram.platform.database import Reader

_IMAGE = """
SELECT i.blob_id, i.visibility, i.owner_id, i.created_at,
       EXISTS (SELECT FROM idempotency_keys WHERE image_id = $1) AS has_key,
       ARRAY(SELECT id FROM uploads WHERE image_id = $1 OR id = $1) AS uploads
FROM (SELECT $1::uuid AS id) AS asked LEFT JOIN images i USING (id)
"""
_BLOB = """
SELECT b.id, b.shard, b.state, b.processing, b.verified_at, b.damaged_at,
       (SELECT count(*) FROM images WHERE blob_id = b.id) AS images,
       ARRAY(SELECT kind || '-' || recipe FROM renditions WHERE blob_id = b.id ORDER BY 1) AS renditions
FROM blobs b WHERE b.id = $1
"""
_DAMAGED = """
SELECT id, shard, damaged_at, (SELECT count(*) FROM images WHERE blob_id = b.id) AS images
FROM blobs b WHERE state = 'live' AND damaged_at IS NOT NULL ORDER BY damaged_at LIMIT $1
"""


class PostgresTraces:
    """Single statements on asyncpg."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def image(self, image_id: UUID) -> ImageTrace:
        async with self._reader.connection() as connection:
            row = await connection.fetchrow(_IMAGE, image_id)
        return ImageTrace(**(dict(row) | {"uploads": tuple(row["uploads"])}))

    async def blob(self, blob_id: UUID) -> BlobTrace | None:
        async with self._reader.connection() as connection:
            row = await connection.fetchrow(_BLOB, blob_id)
        return BlobTrace(**(dict(row) | {"renditions": tuple(row["renditions"])})) if row else None

    async def damaged(self, limit: int) -> list[DamageView]:
        async with self._reader.connection() as connection:
            return [DamageView(**row) for row in await connection.fetch(_DAMAGED, limit)]

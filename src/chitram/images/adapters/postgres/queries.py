"""Reads of images, one statement each."""

from __future__ import annotations

from uuid import UUID

import asyncpg

from chitram.images.domain.image import ImageFormat
from chitram.images.domain.rendition import RenditionFormat
from chitram.images.queries import ImageView, RenditionView
from chitram.platform.database import Reader

_FIND = """
SELECT i.id, i.blob_id, i.owner_id, i.filename, i.visibility, i.expires_at, i.created_at,
       i.updated_at, i.version, b.shard, b.sha256, b.byte_size, b.format, b.width, b.height,
       b.processing, b.optimised_recipe IS NOT NULL AS optimised,
       ARRAY(
           SELECT ROW(r.kind, r.recipe, r.format, r.width, r.height, r.byte_size, r.sha256, r.created_at)
           FROM renditions r WHERE r.blob_id = b.id
       ) AS renditions
FROM images i JOIN blobs b ON b.id = i.blob_id
WHERE i.id = $1
"""
_SHARD_OF = "SELECT shard FROM blobs WHERE id = $1 AND state = 'live'"


class PostgresBlobPlaces:
    """Asks the primary, each time."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def shard_of(self, blob_id: UUID) -> str | None:
        async with self._reader.connection() as connection:
            shard: str | None = await connection.fetchval(_SHARD_OF, blob_id)
        return shard


class PostgresImageQueries:
    """Reads on asyncpg itself, which is several times faster than the ORM here."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def find(self, image_id: UUID) -> ImageView | None:
        async with self._reader.connection() as connection:
            row = await connection.fetchrow(_FIND, image_id)
        if row is None:
            return None
        return ImageView(
            id=row["id"],
            blob_id=row["blob_id"],
            shard=row["shard"],
            owner_id=row["owner_id"],
            filename=row["filename"],
            content_type=ImageFormat(row["format"]).media_type,
            file_size=row["byte_size"],
            width=row["width"],
            height=row["height"],
            checksum=row["sha256"].hex(),
            visibility=row["visibility"],
            expires_at=row["expires_at"],
            created_at=row["created_at"],
            updated_at=row["updated_at"],
            version=row["version"],
            processing=row["processing"],
            optimised=row["optimised"],
            renditions=tuple(map(_rendition, row["renditions"])),
        )


def _rendition(row: asyncpg.Record) -> RenditionView:
    kind, recipe, encoding, width, height, byte_size, sha256, created_at = row
    media_type = RenditionFormat(encoding).media_type
    return RenditionView(kind, recipe, media_type, width, height, byte_size, sha256.hex(), created_at)

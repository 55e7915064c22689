"""Which blobs the rows know and where, for administrators; always on the primary."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from uuid import UUID

from chitram.images.domain.image import Blob, BlobState, ImageFormat
from chitram.platform.database import Reader

_PAGE = 1000
_KNOWN = "SELECT id FROM blobs WHERE id = ANY($1::uuid[])"
_IS_LIVE = "SELECT EXISTS (SELECT FROM blobs WHERE id = $1 AND state = 'live')"
_LIVE = """
SELECT id, sha256, byte_size, format, width, height, shard FROM blobs
WHERE state = 'live' AND id > $1 ORDER BY id LIMIT $2
"""
_COUNTED = 1000
# PostgreSQL has no loose index scan of its own: each step goes through the index to the next shard.
_SHARDS = """
WITH RECURSIVE steps AS (
    (SELECT shard FROM blobs ORDER BY shard LIMIT 1)
    UNION ALL
    SELECT (SELECT shard FROM blobs WHERE shard > steps.shard ORDER BY shard LIMIT 1)
    FROM steps WHERE steps.shard IS NOT NULL
), open_uploads AS (
    SELECT shard FROM uploads WHERE image_id IS NULL AND expires_at > now()
), named AS (
    SELECT shard FROM steps WHERE shard IS NOT NULL UNION SELECT shard FROM open_uploads
)
SELECT shard,
       (SELECT count(*) FROM (
           SELECT FROM blobs WHERE shard = named.shard ORDER BY shard, id LIMIT $1) AS some_blobs)
       + (SELECT count(*) FROM (SELECT FROM open_uploads WHERE shard = named.shard LIMIT $1) AS some_uploads)
       AS count
FROM named
"""


class PostgresBlobCatalogue:
    """Pages through blobs without holding a connection between pages."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def known(self, blob_ids: Sequence[UUID]) -> set[UUID]:
        async with self._reader.connection() as connection:
            return {row["id"] for row in await connection.fetch(_KNOWN, blob_ids)}

    async def is_live(self, blob_id: UUID) -> bool:
        async with self._reader.connection() as connection:
            return bool(await connection.fetchval(_IS_LIVE, blob_id))

    async def live(self) -> AsyncIterator[Blob]:
        after = UUID(int=0)
        while True:
            async with self._reader.connection() as connection:
                rows = await connection.fetch(_LIVE, after, _PAGE)
            for row in rows:
                yield Blob(
                    id=row["id"],
                    sha256=row["sha256"],
                    byte_size=row["byte_size"],
                    format=ImageFormat(row["format"]),
                    width=row["width"],
                    height=row["height"],
                    shard=row["shard"],
                    state=BlobState.LIVE,
                )
            if len(rows) < _PAGE:
                return
            after = rows[-1]["id"]

    async def shards(self) -> Mapping[str, int]:
        async with self._reader.connection() as connection:
            rows = await connection.fetch(_SHARDS, _COUNTED)
        return {row["shard"]: min(row["count"], _COUNTED) for row in rows}

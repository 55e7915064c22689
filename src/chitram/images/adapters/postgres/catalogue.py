"""Which blobs the rows know and where, for administrators; always on the primary."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from uuid import UUID

import asyncpg

from chitram.images.domain.image import Blob, BlobState, ImageFormat
from chitram.images.domain.keys import rendition_name
from chitram.images.domain.rendition import RenditionKind
from chitram.platform.database import Reader

_PAGE = 1000
_KNOWN = "SELECT id, shard FROM blobs WHERE id = ANY($1::uuid[])"
_RENDITIONS = "SELECT blob_id, kind, recipe, byte_size FROM renditions WHERE blob_id = ANY($1::uuid[])"
_IS_LIVE = "SELECT EXISTS (SELECT FROM blobs WHERE id = $1 AND state = 'live')"
_LIVE = """
SELECT id, sha256, byte_size, format, width, height, shard FROM blobs
WHERE state = 'live' AND id > $1 ORDER BY id LIMIT $2
"""
_HELD_BY = """
SELECT id, sha256, byte_size, format, width, height, shard FROM blobs
WHERE state = 'live' AND id > $1 AND shard = $3 ORDER BY shard, id LIMIT $2
"""
_COUNT_PAGE = 20_000
_COUNT_HELD_BY = """
WITH page AS (
    SELECT id FROM blobs WHERE state = 'live' AND id > $1 AND shard = $3 ORDER BY shard, id LIMIT $2
)
SELECT count(*) AS count, (SELECT id FROM page ORDER BY id DESC LIMIT 1) AS last FROM page
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

    async def known(self, blob_ids: Sequence[UUID]) -> Mapping[UUID, str]:
        async with self._reader.connection() as connection:
            return {row["id"]: row["shard"] for row in await connection.fetch(_KNOWN, blob_ids)}

    async def renditions(self, blob_ids: Sequence[UUID]) -> Mapping[UUID, Mapping[str, int]]:
        async with self._reader.connection() as connection:
            rows = await connection.fetch(_RENDITIONS, blob_ids)
        found: dict[UUID, dict[str, int]] = {}
        for row in rows:
            name = rendition_name(RenditionKind(row["kind"]), row["recipe"])
            found.setdefault(row["blob_id"], {})[name] = row["byte_size"]
        return found

    async def is_live(self, blob_id: UUID) -> bool:
        async with self._reader.connection() as connection:
            return bool(await connection.fetchval(_IS_LIVE, blob_id))

    def live(self) -> AsyncIterator[Blob]:
        return self._pages(_LIVE)

    def held_by(self, shard: str) -> AsyncIterator[Blob]:
        return self._pages(_HELD_BY, shard)

    async def _pages(self, query: str, *arguments: str) -> AsyncIterator[Blob]:
        after = UUID(int=0)
        while True:
            async with self._reader.connection() as connection:
                rows = await connection.fetch(query, after, _PAGE, *arguments)
            for row in rows:
                yield _blob_from(row)
            if len(rows) < _PAGE:
                return
            after = rows[-1]["id"]

    async def count_held_by(self, shard: str) -> int:
        after, total, counted = UUID(int=0), 0, _COUNT_PAGE
        while counted == _COUNT_PAGE:
            async with self._reader.connection() as connection:
                page = await connection.fetchrow(_COUNT_HELD_BY, after, _COUNT_PAGE, shard)
            counted, after = page["count"], page["last"]
            total += counted
        return total

    async def shards(self) -> Mapping[str, int]:
        async with self._reader.connection() as connection:
            rows = await connection.fetch(_SHARDS, _COUNTED)
        return {row["shard"]: min(row["count"], _COUNTED) for row in rows}


def _blob_from(row: asyncpg.Record) -> Blob:
    return Blob(
        id=row["id"],
        sha256=row["sha256"],
        byte_size=row["byte_size"],
        format=ImageFormat(row["format"]),
        width=row["width"],
        height=row["height"],
        shard=row["shard"],
        state=BlobState.LIVE,
    )

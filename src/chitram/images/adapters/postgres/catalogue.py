"""Which blobs the rows know, for reconcile; always on the primary."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
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

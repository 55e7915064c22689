"""Reads of images, one statement each."""

from __future__ import annotations

from uuid import UUID

import asyncpg

from chitram.images.domain.image import ImageFormat
from chitram.images.domain.rendition import RenditionFormat
from chitram.images.queries import FoundImages, ImageView, ListedImages, RenditionView
from chitram.kernel.ids import ids_between
from chitram.platform.database import Reader

_VIEW = """
SELECT i.id, i.blob_id, i.owner_id, i.filename, i.visibility, i.expires_at, i.created_at,
       i.updated_at, i.version, b.shard, b.sha256, b.byte_size, b.format, b.width, b.height,
       b.processing, b.optimised_recipe IS NOT NULL AS optimised,
       ARRAY(
           SELECT ROW(r.kind, r.recipe, r.format, r.width, r.height, r.byte_size, r.sha256, r.created_at)
           FROM renditions r WHERE r.blob_id = b.id
       ) AS renditions
FROM images i JOIN blobs b ON b.id = i.blob_id
"""
_FIND = _VIEW + "WHERE i.id = $1"
_LIST = """
WHERE i.id BETWEEN $2 AND $3
  AND (i.expires_at IS NULL OR i.expires_at > $4)
  AND ($5::timestamptz IS NULL OR i.created_at > $5)
  AND ($6::timestamptz IS NULL OR i.created_at < $6)
  AND ($7::text IS NULL OR i.visibility = $7)
  AND ($8::text IS NULL OR b.format = $8)
"""
_NEWEST = "ORDER BY i.id DESC LIMIT $9"
# Two statements rather than one condition, for the plan of that would use neither index.
_LIST_OWNED = f"{_VIEW}{_LIST}  AND i.owner_id = $1\n{_NEWEST}"
_LIST_ALL = f"{_VIEW}{_LIST}  AND $1::uuid IS NULL\n{_NEWEST}"
# No index tells types or visibilities apart. So many images are looked at for a page of one of them;
# where an account has a million, one that is rare among them takes as long as any other.
_MOST_LOOKED_AT = 5000
_LOOKED_AT = "SELECT id FROM images WHERE id BETWEEN $2 AND $3"
_LAST = "ORDER BY id DESC OFFSET $4 LIMIT 1"
_LAST_OWNED = f"{_LOOKED_AT} AND owner_id = $1 {_LAST}"
_LAST_ALL = f"{_LOOKED_AT} AND $1::uuid IS NULL {_LAST}"
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
        return _view(row) if row is not None else None


class PostgresImageLists:
    """Lists on asyncpg, one statement for a page, and one more where it may be far between its images.

    Args:
        reader: single statements.
        most: so many images are looked at for a page.
    """

    def __init__(self, reader: Reader, most: int = _MOST_LOOKED_AT) -> None:
        self._reader = reader
        self._most = most

    async def newest(self, wanted: ListedImages, limit: int) -> FoundImages:
        # Ids are made of the moment of creation, so that one range of the index holds the time too.
        lowest, highest = ids_between(wanted.created_after, wanted.created_before)
        if wanted.before is not None:
            highest = min(highest, UUID(int=max(wanted.before.int - 1, 0)))
        everybodys, last = wanted.owner_id is None, None
        async with self._reader.connection() as connection:
            if wanted.content_type or wanted.visibility:
                last = await connection.fetchval(
                    _LAST_ALL if everybodys else _LAST_OWNED,
                    *(wanted.owner_id, lowest, highest, self._most - 1),
                )
            rows = await connection.fetch(
                _LIST_ALL if everybodys else _LIST_OWNED,
                wanted.owner_id,
                lowest if last is None else last,
                highest,
                wanted.now,
                wanted.created_after,
                wanted.created_before,
                wanted.visibility,
                wanted.content_type.removeprefix("image/") if wanted.content_type else None,
                limit,
            )
        return FoundImages(list(map(_view, rows)), last if len(rows) < limit else None)


def _view(row: asyncpg.Record) -> ImageView:
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

"""Rows in bulk, made by SQL: as many as an installation has after years, in seconds or minutes."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from uuid import UUID

import asyncpg

TABLES = ("blobs", "images", "renditions")
# Rows that one statement makes: what they are made of fits into memory.
_PORTION = 1_000_000
_PNG_EVERY = 10
_PUBLIC_EVERY = 3

_MADE = "CREATE TEMPORARY TABLE made (n bigint, blob_id uuid, image_id uuid)"
_MAKE = """
INSERT INTO made SELECT n, uuidv7(shift), uuidv7(shift)
FROM (
    SELECT n, (n - $1::bigint) * $2::interval AS shift FROM generate_series($3::bigint, $4::bigint) AS n
) AS moments
"""
_BLOBS = f"""
INSERT INTO blobs (id, sha256, byte_size, format, width, height, shard, state, created_at, processing,
                   thumbnails_recipe, optimised_recipe, verified_at)
SELECT blob_id, sha256(uuid_send(blob_id)), 200000, CASE WHEN n % {_PNG_EVERY} = 0 THEN 'png' ELSE 'jpeg' END,
       1600, 1200, $1, 'live', uuid_extract_timestamp(blob_id), 'ready', $2, $3,
       CASE WHEN n % 2 = 0 THEN uuid_extract_timestamp(blob_id) END
FROM made
"""  # noqa: S608 - numbers of this module
_IMAGES = f"""
INSERT INTO images (id, blob_id, owner_id, filename, visibility, delete_token_hash, created_at, updated_at)
SELECT image_id, blob_id, owner_id, 'made.jpg',
       CASE WHEN n % {_PUBLIC_EVERY} = 0 THEN 'public' ELSE 'unlisted' END,
       CASE WHEN owner_id IS NULL THEN sha256(encode(sha256(uuid_send(image_id)), 'hex')::bytea) END, at, at
FROM (
    SELECT *, uuid_extract_timestamp(image_id) AS at, CASE WHEN n % $2 = 0 THEN $1::uuid END AS owner_id
    FROM made
) AS owned
"""  # noqa: S608 - numbers of this module
_RENDITIONS = """
INSERT INTO renditions (blob_id, kind, recipe, format, width, height, byte_size, sha256, created_at)
SELECT blob_id, kind, $1, 'jpeg', side, side * 3 / 4, side * 40, sha256(uuid_send(blob_id)),
       uuid_extract_timestamp(blob_id)
FROM made CROSS JOIN (VALUES ('small', 150), ('medium', 300), ('large', 600)) AS sizes (kind, side)
"""
_CHARGE = """
UPDATE users SET (used_images, used_bytes) = (
    SELECT count(*), coalesce(sum(b.byte_size), 0)
    FROM images i JOIN blobs b ON b.id = i.blob_id WHERE i.owner_id = users.id
) WHERE id = $1
"""
_INDEXES = """
SELECT indexrelid::regclass::text AS name, pg_get_indexdef(indexrelid) AS definition
FROM pg_index WHERE indrelid = ANY($1::regclass[])
AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)
"""
_REFERENCES = """
SELECT conrelid::regclass::text AS of, conname AS name, pg_get_constraintdef(oid) AS definition
FROM pg_constraint WHERE contype = 'f' AND conrelid = ANY($1::regclass[])
"""


async def add_images(
    connection: asyncpg.Connection,
    count: int,
    *,
    owner_id: UUID | None = None,
    owned_every: int = 1,
    step: timedelta = timedelta(milliseconds=100),
    shard: str = "local",
) -> None:
    """Add images of blobs of their own, each with three thumbnails; none of the objects exists.

    Args:
        owner_id: of every `owned_every`-th; the others are nobody's, and `delete_token` deletes them.
        step: time from one to the next; the last is of now.
    """
    await connection.execute(_MADE)
    try:
        for first in range(1, count + 1, _PORTION):
            last = min(first + _PORTION - 1, count)
            await connection.execute("TRUNCATE made")
            await connection.execute(_MAKE, count, step, first, last)
            await connection.execute(_BLOBS, shard, 1, 1)
            await connection.execute(_IMAGES, owner_id, owned_every)
            await connection.execute(_RENDITIONS, 1)
    finally:
        await connection.execute("DROP TABLE made")
    if owner_id is not None:
        await connection.execute(_CHARGE, owner_id)


def delete_token(image_id: UUID) -> str:
    """The token that deletes an image that `add_images` made nobody's."""
    return hashlib.sha256(image_id.bytes).hexdigest()


@contextlib.asynccontextmanager
async def indexed_afterwards(
    connection: asyncpg.Connection, tables: Sequence[str] = TABLES
) -> AsyncIterator[None]:
    """Take the indexes and references of tables away, but for primary keys, and bring them back.

    Millions of rows are added several times as fast without them, a few are not.
    """
    indexes = await connection.fetch(_INDEXES, tables)
    references = await connection.fetch(_REFERENCES, tables)
    for reference in references:
        await connection.execute(f"ALTER TABLE {reference['of']} DROP CONSTRAINT {reference['name']}")
    for index in indexes:
        await connection.execute(f"DROP INDEX {index['name']}")
    yield
    await connection.execute("SET maintenance_work_mem = '256MB'")
    for index in indexes:
        await connection.execute(index["definition"])
    for reference in references:
        await connection.execute(
            f"ALTER TABLE {reference['of']} ADD CONSTRAINT {reference['name']} {reference['definition']}"
        )
    await connection.execute("RESET maintenance_work_mem")

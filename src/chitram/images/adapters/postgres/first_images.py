"""What nearly every upload asks of the database, in one statement each."""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec

from chitram.images.adapters.postgres.rows import blob_from_record
from chitram.images.domain.image import Blob, Image
from chitram.images.domain.work import BLOB_ID, MAKE_RENDITIONS
from chitram.images.ports import LiveBlobExists, StaleBlob
from chitram.kernel.ids import id_time, new_id
from chitram.platform.outbox import OutboxEntry
from chitram.platform.statements import Statement, Statements

FIND_LIVE = Statement(
    "find live blob",
    """
SELECT id, sha256, byte_size, format, width, height, shard, state, processing,
       thumbnails_recipe, optimised_recipe, damaged_at
FROM blobs WHERE sha256 = $1 AND state = 'live'
""",
)
# Another transaction that makes a live blob of the same content at this moment is waited for. The
# clock is read once, and by nobody who could be asked to judge twice.
ADD_FIRST = Statement(
    "COMMIT first image",
    """
WITH moment AS MATERIALIZED (
    SELECT clock_timestamp() - $1::timestamptz > $2::interval AS is_stale
), blob AS (
    INSERT INTO blobs (id, sha256, byte_size, format, width, height, shard, state)
    SELECT $3::uuid, $4::bytea, $5::bigint, $6::text, $7::int, $8::int, $9::text, 'live'
    FROM moment WHERE NOT is_stale
    ON CONFLICT (sha256) WHERE state = 'live' DO NOTHING
    RETURNING id
), image AS (
    INSERT INTO images (id, blob_id, owner_id, filename, visibility, delete_token_hash,
                        delete_token_expires_at, expires_at, upload_address, created_at, updated_at, version)
    SELECT $10::uuid, id, $11::uuid, $12::text, $13::text, $14::bytea,
           $15::timestamptz, $16::timestamptz, $17::text::inet, $18::timestamptz, $19::timestamptz, $20::int
    FROM blob
), owed AS (
    INSERT INTO outbox (id, kind, payload) SELECT $21::uuid, $22::text, $23::text::jsonb FROM blob
)
SELECT CASE WHEN EXISTS (SELECT FROM blob) THEN 'COMMITTED' WHEN is_stale THEN 'STALE' ELSE 'EXISTS' END
FROM moment
""",
)
STATEMENTS = (FIND_LIVE, ADD_FIRST)


async def find_live(statements: Statements, sha256: bytes) -> Blob | None:
    """The live generation of a content, as committed now."""
    row = await statements.read(FIND_LIVE, sha256)
    return blob_from_record(row) if row is not None else None


async def add_first(
    statements: Statements, blob: Blob, image: Image, *, newer_than: timedelta, now: datetime
) -> OutboxEntry:
    """Commit a new blob, its first image and what it owes, and say what that is; see the port."""
    payload = {BLOB_ID: str(blob.id)}
    entry = OutboxEntry(id=new_id(now), kind=MAKE_RENDITIONS, payload=payload)
    row = await statements.commit(
        ADD_FIRST,
        id_time(blob.id),
        newer_than,
        blob.id,
        blob.sha256,
        blob.byte_size,
        blob.format.value,
        blob.width,
        blob.height,
        blob.shard,
        image.id,
        image.owner_id,
        image.filename,
        image.visibility.value,
        image.delete_token_hash,
        image.delete_token_expires_at,
        image.expires_at,
        image.upload_address,
        image.created_at,
        image.updated_at,
        image.version,
        entry.id,
        entry.kind,
        msgspec.json.encode(payload).decode(),
    )
    outcome = row[0] if row is not None else None
    if outcome == "STALE":
        raise StaleBlob
    if outcome != "COMMITTED":
        raise LiveBlobExists
    return entry

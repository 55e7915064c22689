"""A database in which every table has so many rows that plans are what they are in a large one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from tests.support.bulk import add_images

IMAGES = 20_000
PEOPLE = 2_000
OTHERS = 12_000
# Images of one blob.
POPULAR = 600
# A kind that a few of all entries are of.
RARE_WORK = "store.rare"
# Tables that stay small however much there is; they are read as a whole.
SMALL = {"cache_epoch", "rounds", "alembic_version"}

_PEOPLE = """
INSERT INTO users (id, email, email_key, password_hash, created_at, updated_at)
SELECT uuidv7(), n || '@example.com', n || '@example.com', 'none', now(), now()
FROM generate_series(1, $1::int) AS n
"""
_SESSIONS = """
INSERT INTO sessions (id, user_id, created_at, last_used_at, expires_at, revoked_at, origin)
SELECT uuidv7(), u.id, now(), now(), now() + CASE WHEN n % 500 = 0 THEN '-2 days' ELSE '1 day' END::interval,
       CASE WHEN n % 200 = 0 THEN now() END, n::text
FROM generate_series(1, $1::int) AS n
JOIN (SELECT id, row_number() OVER (ORDER BY id) AS number FROM users) AS u
ON u.number = 1 + n % (SELECT count(*) FROM users)
"""
_TOKENS = """
INSERT INTO refresh_tokens (token_hash, session_id, created_at, used_at)
SELECT sha256(uuid_send(s.id) || n::text::bytea), s.id, now(), CASE WHEN n < 2 THEN now() END
FROM sessions s CROSS JOIN generate_series(1, 2) AS n
"""
_KEYS = """
INSERT INTO api_keys (id, user_id, name, key_hash, hint, scopes, created_at)
SELECT uuidv7(), id, 'a key', sha256(uuid_send(id) || n::text::bytea), 'hint', '{images:read}', now()
FROM users CROSS JOIN generate_series(1, 3) AS n
"""
_AUDIT = """
INSERT INTO audit_log (id, at, actor_id, action, subject)
SELECT uuidv7(), now(), NULL, 'image.delete', 'image:' || n % ($1::int / 4)
FROM generate_series(1, $1::int) AS n
"""
_IDEMPOTENCY = """
INSERT INTO idempotency_keys (key_hash, request_digest, lease, leased_until, image_id, created_at, expires_at)
SELECT sha256(uuid_send(id)), '', id, now(), id, now(),
       now() + '1 hour'::interval * (row_number() OVER () - 100)
FROM (SELECT id FROM images LIMIT $1) AS few
"""
_UPLOADS = """
INSERT INTO uploads (id, owner_id, shard, visibility, created_at, expires_at)
SELECT id, id, 'local', 'unlisted', now(), now() + '1 hour'::interval * (row_number() OVER () - 100)
FROM (SELECT id FROM blobs LIMIT $1) AS few
"""
# Most waits for its time, some waits to be handed over, some is in the queue.
_OWED = """
INSERT INTO outbox (id, kind, payload, run_after, enqueued_at, dead_at)
SELECT uuidv7(), (ARRAY['blob.optimise', 'blob.renditions', 'image.purge', 'blob.drop_copy'])[1 + n % 4],
       jsonb_build_object('blob_id', b.id), now() + '1 second'::interval * (n - $1::int * 3 / 4),
       CASE WHEN n % 50 = 0 THEN now() END, CASE WHEN n % 1000 = 0 THEN now() END
FROM (SELECT id, row_number() OVER (ORDER BY id) AS n FROM blobs LIMIT $1) AS b
"""
_RARELY_OWED = """
INSERT INTO outbox (id, kind, payload, dead_at)
SELECT uuidv7(), $1, '{"shard": "other"}', CASE WHEN n % 10 = 0 THEN now() END
FROM generate_series(1, 50) AS n
"""
_EXPIRING = """
UPDATE images SET expires_at = now() + '1 minute'::interval WHERE id IN (SELECT id FROM images LIMIT $1)
"""
# The newest are not ready yet, a few of the oldest lack their optimised renditions.
_PENDING = """
UPDATE blobs SET thumbnails_recipe = NULL, optimised_recipe = NULL
WHERE id IN (SELECT id FROM blobs ORDER BY id DESC LIMIT $1)
"""
_POPULAR = """
UPDATE images SET blob_id = $1 WHERE id IN (SELECT id FROM images ORDER BY id OFFSET 9000 LIMIT $2)
"""
_SOME_IMAGE = """
SELECT i.id, i.blob_id, b.sha256, i.created_at FROM images i JOIN blobs b ON b.id = i.blob_id
WHERE owner_id = $1 AND state = 'live' ORDER BY i.id OFFSET 1000 LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class Crowd:
    """Something of everything that is there."""

    now: datetime
    owner_id: UUID
    image_id: UUID
    blob_id: UUID
    sha256: bytes
    old_id: UUID
    old_at: datetime
    popular_id: UUID
    session_id: UUID
    token_hash: bytes
    key_id: UUID
    key_hash: bytes
    idempotency_hash: bytes
    upload_id: UUID
    entry_id: UUID


async def crowd(url: str) -> Crowd:
    """Fill a database that is empty."""
    connection = await asyncpg.connect(url)
    try:
        return await _fill(connection)
    finally:
        await connection.close()


async def _fill(connection: asyncpg.Connection) -> Crowd:
    await connection.execute(_PEOPLE, PEOPLE)
    owner_id = await connection.fetchval("SELECT id FROM users LIMIT 1")
    await add_images(connection, IMAGES, owner_id=owner_id, owned_every=2)
    for statement in (_SESSIONS, _AUDIT, _IDEMPOTENCY, _UPLOADS, _OWED):
        await connection.execute(statement, OTHERS)
    await connection.execute(_RARELY_OWED, RARE_WORK)
    await connection.execute(_EXPIRING, IMAGES // 20)
    await connection.execute(_PENDING, IMAGES // 30)
    popular_id = await connection.fetchval("SELECT id FROM blobs ORDER BY id OFFSET 9000 LIMIT 1")
    await connection.execute(_POPULAR, popular_id, POPULAR)
    await connection.execute("UPDATE blobs SET damaged_at = now() WHERE id = $1", popular_id)
    await connection.execute(_TOKENS)
    await connection.execute(_KEYS)
    await connection.execute("VACUUM (ANALYZE)")
    image = await connection.fetchrow(_SOME_IMAGE, owner_id)
    token = await connection.fetchrow("SELECT token_hash, session_id FROM refresh_tokens LIMIT 1")
    key = await connection.fetchrow(
        "SELECT id, key_hash FROM api_keys WHERE user_id = $1 ORDER BY id DESC LIMIT 1", owner_id
    )
    return Crowd(
        now=await connection.fetchval("SELECT now()"),
        owner_id=owner_id,
        image_id=image["id"],
        blob_id=image["blob_id"],
        sha256=image["sha256"],
        old_id=image["id"],
        old_at=image["created_at"],
        popular_id=popular_id,
        session_id=token["session_id"],
        token_hash=token["token_hash"],
        key_id=key["id"],
        key_hash=key["key_hash"],
        idempotency_hash=await connection.fetchval("SELECT key_hash FROM idempotency_keys LIMIT 1"),
        upload_id=await connection.fetchval("SELECT id FROM uploads LIMIT 1"),
        entry_id=await connection.fetchval("SELECT id FROM outbox LIMIT 1"),
    )

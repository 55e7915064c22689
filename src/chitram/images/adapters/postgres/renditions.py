"""Renditions in PostgreSQL: what workers do all day long, in one statement each."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from chitram.images.adapters.postgres.rows import RenditionRow, blob_from_record, rendition_from
from chitram.images.domain.keys import rendition_name
from chitram.images.domain.rendition import Rendition, RenditionSort
from chitram.images.domain.work import BLOB_ID, CLEAR_RENDITIONS, DROP_RENDITIONS, NAMES, SHARD
from chitram.images.ports import BegunMaking, MadeRenditions, Recorded, Recording
from chitram.kernel.ids import new_id
from chitram.platform.outbox import OutboxEntry
from chitram.platform.statements import Statement, Statements

_RECIPES = {
    RenditionSort.THUMBNAILS: "thumbnails_recipe",
    RenditionSort.OPTIMISED: "optimised_recipe",
}
_IS_MADE = {
    RenditionSort.THUMBNAILS: "processing = 'ready' AND coalesce(thumbnails_recipe, 0) >= $5",
    RenditionSort.OPTIMISED: "coalesce(optimised_recipe, 0) >= $5",
}
# One statement, which reads nothing but the row that it locks, and that as it is once it has the lock.
_BEGIN = """
WITH blob AS MATERIALIZED (
    SELECT id, sha256, byte_size, format, width, height, shard, state, processing, thumbnails_recipe,
           optimised_recipe, damaged_at, state = 'live' AND NOT ({is_made}) AS is_wanted
    FROM blobs WHERE id = $1 FOR UPDATE
), clearing AS (
    INSERT INTO outbox (id, kind, payload, run_after)
    SELECT $3::uuid, '{clear}', jsonb_build_object('{blob_id}', id::text, '{shard}', shard),
           now() + $4::interval
    FROM blob WHERE is_wanted AND $4::interval IS NOT NULL
), struck_off AS (
    DELETE FROM outbox WHERE id = $2 AND NOT EXISTS (SELECT FROM blob WHERE is_wanted)
)
SELECT * FROM blob WHERE is_wanted
"""
# Run twice in one transaction, the first time ($18 is false) for nothing but the lock: a statement sees
# what was there when it began, not what was committed while it waited for a lock of its own. Counted
# rather than EXISTS, for which PostgreSQL hopes for an early row of the table instead of asking the index;
# and images in any order, for by id it would go through those of others too.
_RECORD = """
WITH blob AS MATERIALIZED (
    SELECT id, state, shard, optimised_recipe FROM blobs WHERE id = $1 FOR UPDATE
), live AS MATERIALIZED (
    SELECT id, shard, optimised_recipe FROM blob WHERE $18::boolean AND state = 'live' AND shard = $19::text
), old AS (
    SELECT kind, recipe FROM renditions WHERE blob_id = (SELECT id FROM live) AND kind = ANY($2::text[])
), removed AS (
    DELETE FROM renditions
    WHERE blob_id = (SELECT id FROM live) AND kind = ANY($2) AND kind <> ALL($4::text[])
), made AS (
    INSERT INTO renditions (blob_id, kind, recipe, format, width, height, byte_size, sha256, created_at)
    SELECT live.id, kind, recipe, format, width, height, byte_size, sha256, created_at
    FROM live, unnest($4, $5::smallint[], $6::text[], $7::int[], $8::int[], $9::bigint[], $10::bytea[],
                      $11::timestamptz[])
        AS each (kind, recipe, format, width, height, byte_size, sha256, created_at)
    ON CONFLICT (blob_id, kind) DO UPDATE SET
        recipe = excluded.recipe, format = excluded.format, width = excluded.width,
        height = excluded.height, byte_size = excluded.byte_size, sha256 = excluded.sha256,
        created_at = excluded.created_at
), changed AS (
    UPDATE blobs SET {recipe} = $3::smallint{processing},
        verified_at = CASE WHEN cardinality($4) = 0 THEN verified_at ELSE $12::timestamptz END,
        damaged_at = CASE WHEN cardinality($4) = 0 THEN damaged_at END
    WHERE id = (SELECT id FROM live)
), struck_off AS (
    DELETE FROM outbox WHERE id = ANY($13::uuid[]) AND EXISTS (SELECT FROM live)
), owed AS (
    INSERT INTO outbox (id, kind, payload)
    SELECT $14::uuid, $15::text, jsonb_build_object('{blob_id}', $1::text)
    FROM live WHERE $15::text IS NOT NULL AND optimised_recipe IS NULL AND (
        SELECT count(*) FROM outbox
        WHERE kind = ANY($16::text[]) AND payload @> jsonb_build_object('{blob_id}', $1::text)
    ) = 0
    RETURNING id
), replaced AS (
    SELECT string_agg(name, ' ' ORDER BY name COLLATE "C") AS names
    FROM (SELECT kind || '-' || recipe AS name FROM old) AS each WHERE name <> ALL($20::text[])
), to_drop AS (
    INSERT INTO outbox (id, kind, payload, run_after)
    SELECT $21::uuid, '{drop}', jsonb_build_object('{blob_id}', $1::text, '{shard}', shard, '{names}', names),
           now() + $22::interval
    FROM live, replaced WHERE names IS NOT NULL
), touched AS (
    UPDATE images SET version = version + 1
    WHERE id IN (SELECT id FROM images WHERE blob_id = (SELECT id FROM live) LIMIT $17::bigint)
    RETURNING id, version
)
SELECT CASE WHEN NOT $18 THEN 'LOCKED' WHEN state <> 'live' THEN 'GONE' WHEN shard <> $19 THEN 'MOVED'
            ELSE 'COMMITTED' END AS what, NULL::uuid AS id, NULL::int AS version FROM blob
UNION ALL SELECT 'touched', id, version FROM touched
UNION ALL SELECT 'owed', id, NULL FROM owed
"""
_PROCESSING = {RenditionSort.THUMBNAILS: ", processing = 'ready'", RenditionSort.OPTIMISED: ""}
_BEGIN_OF = {
    sort: Statement(
        f"COMMIT begin {sort.value}",
        _BEGIN.format(is_made=_IS_MADE[sort], clear=CLEAR_RENDITIONS, blob_id=BLOB_ID, shard=SHARD),
    )
    for sort in RenditionSort
}
_RECORD_OF = {
    sort: Statement(
        f"COMMIT record {sort.value}",
        _RECORD.format(
            recipe=_RECIPES[sort],
            processing=_PROCESSING[sort],
            drop=DROP_RENDITIONS,
            blob_id=BLOB_ID,
            shard=SHARD,
            names=NAMES,
        ),
    )
    for sort in RenditionSort
}
STATEMENTS = (*_BEGIN_OF.values(), *_RECORD_OF.values())
_OUTCOMES = {"COMMITTED": Recording.RECORDED, "MOVED": Recording.MOVED, "GONE": Recording.GONE}


async def begin_making(
    statements: Statements, entry_id: UUID, blob_id: UUID, sort: RenditionSort, clear_after: timedelta | None
) -> BegunMaking | None:
    """Begin in one round trip; see the port."""
    clearing = new_id(datetime.now(UTC))
    row = await statements.commit(_BEGIN_OF[sort], blob_id, entry_id, clearing, clear_after, sort.recipe)
    if row is None:
        return None
    return BegunMaking(blob_from_record(row), None if clear_after is None else clearing)


async def record_made(statements: Statements, made: MadeRenditions) -> tuple[Recorded, OutboxEntry | None]:
    """Record in one round trip, see the port; what came of it, and what is owed now."""
    now = datetime.now(UTC)
    owed, to_drop = new_id(now), new_id(now)
    given = (
        made.blob_id,
        [kind.value for kind in made.sort.kinds],
        made.sort.recipe,
        *_columns(made.made),
        made.at,
        [*made.settled],
        owed,
        made.owed,
        [*made.same_as],
        made.most_images,
    )
    names = [rendition_name(each.kind, each.recipe) for each in made.made]
    rest = (made.shard, names, to_drop, made.drop_after)
    rows = await statements.commit_in_turn(
        _RECORD_OF[made.sort], (*given, False, *rest), (*given, True, *rest)
    )
    found = [_OUTCOMES[row["what"]] for row in rows if row["what"] in _OUTCOMES]
    touched = tuple((row["id"], row["version"]) for row in rows if row["what"] == "touched")
    # A blob that has no row is gone.
    recorded = Recorded(found[0] if found else Recording.GONE, touched)
    if made.owed is None or not any(row["what"] == "owed" for row in rows):
        return recorded, None
    return recorded, OutboxEntry(id=owed, kind=made.owed, payload={BLOB_ID: str(made.blob_id)})


class PostgresRenditions:
    """Renditions inside one PostgreSQL transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def of(self, blob_id: UUID) -> Sequence[Rendition]:
        rows = await self._session.scalars(select(RenditionRow).where(RenditionRow.blob_id == blob_id))
        return [rendition_from(row) for row in rows]


def _columns(made: Sequence[Rendition]) -> tuple[list[Any], ...]:
    return (
        [each.kind.value for each in made],
        [each.recipe for each in made],
        [each.format.value for each in made],
        [each.width for each in made],
        [each.height for each in made],
        [each.byte_size for each in made],
        [each.sha256 for each in made],
        [each.created_at for each in made],
    )

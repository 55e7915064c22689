"""Lists of images, on real PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from chitram.images.adapters.postgres.queries import PostgresImageLists
from chitram.images.queries import ListedImages
from chitram.kernel.ids import ids_between, new_id
from tests.support.database import Database

OWNER, OTHER = uuid4(), uuid4()
START = datetime(2026, 3, 1, 12, 0, 0, 123_456, tzinfo=UTC)
SECOND = timedelta(seconds=1)


async def add(
    database: Database, created: Sequence[datetime], *, owner: UUID | None = OWNER, **fields: Any
) -> list[UUID]:
    """Add images of one new blob, one for each moment; their ids."""
    connection = await asyncpg.connect(database.url)
    blob_id, ids = new_id(START), [new_id(moment) for moment in created]
    await connection.execute(
        "INSERT INTO blobs (id, sha256, byte_size, format, width, height, shard, state)"
        " VALUES ($1, sha256($2), 1000, $3, 64, 48, 'local', 'live')",
        *(blob_id, blob_id.bytes, fields.get("format", "jpeg")),
    )
    await connection.copy_records_to_table(
        "images",
        columns=[
            *("id", "blob_id", "owner_id", "filename", "visibility"),
            *("created_at", "updated_at", "expires_at"),
        ],
        records=[
            (
                *(image_id, blob_id, owner, "made.jpg", fields.get("visibility", "unlisted")),
                *(moment, moment, fields.get("expires_at")),
            )
            for image_id, moment in zip(ids, created, strict=True)
        ],
    )
    await connection.close()
    return ids


async def listed(
    database: Database, limit: int = 100, *, owner: UUID | None = OWNER, **wanted: Any
) -> list[UUID]:
    wanted.setdefault("now", START + timedelta(days=1))
    found = await PostgresImageLists(database.reader).newest(ListedImages(owner_id=owner, **wanted), limit)
    return [view.id for view in found.images]


async def test_lists_the_owners_images_newest_first_and_nobody_elses(database: Database) -> None:
    ids = await add(database, [START + number * SECOND for number in range(5)])
    others = await add(database, [START + 9 * SECOND], owner=OTHER)
    nobodys = await add(database, [START + 10 * SECOND], owner=None)
    assert await listed(database) == ids[::-1]
    assert await listed(database, owner=uuid4()) == []
    assert await listed(database, owner=None) == [*nobodys, *others, *ids[::-1]]


async def test_pages_meet_without_a_gap_or_an_overlap(database: Database) -> None:
    ids = sorted(await add(database, [START] * 25), reverse=True)
    pages, before = [], None
    while page := await listed(database, 10, before=before):
        pages.append(page)
        before = page[-1]
    assert [len(page) for page in pages] == [10, 10, 5]
    assert [image_id for page in pages for image_id in page] == ids


@pytest.mark.parametrize("step", [timedelta(microseconds=1), timedelta(milliseconds=1), SECOND])
async def test_a_range_of_time_is_exact_and_without_its_ends(database: Database, step: timedelta) -> None:
    moments = [START + number * step for number in range(-2, 3)]
    ids = await add(database, moments)
    assert set(await listed(database, created_after=START)) == set(ids[3:])
    assert set(await listed(database, created_before=START)) == set(ids[:2])
    both: dict[str, Any] = {"created_after": moments[0], "created_before": moments[-1]}
    assert set(await listed(database, **both)) == set(ids[1:4])


async def test_filters_by_type_and_visibility_and_leaves_out_what_has_expired(database: Database) -> None:
    now = START + timedelta(days=1)
    (png,) = await add(database, [START], format="png")
    (private,) = await add(database, [START + SECOND], visibility="private")
    (later,) = await add(database, [START + 2 * SECOND], expires_at=now + SECOND)
    await add(database, [START + 3 * SECOND], expires_at=now)
    assert await listed(database) == [later, private, png]
    assert await listed(database, content_type="image/png") == [png]
    assert await listed(database, content_type="image/jpeg") == [later, private]
    assert await listed(database, visibility="private") == [private]
    assert await listed(database, visibility="public") == []


async def test_times_beyond_all_ids_are_no_error(database: Database) -> None:
    ids = await add(database, [START])
    first, last = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    assert await listed(database, created_after=first, created_before=last) == ids
    assert await listed(database, created_before=first) == await listed(database, created_after=last) == []


def test_every_id_lies_between_the_moments_around_it() -> None:
    moment = START
    for _ in range(2000):
        lowest, highest = ids_between(moment, moment)
        assert lowest < new_id(moment) < highest
        moment += timedelta(microseconds=1009)


async def test_a_search_for_what_is_rare_is_ended_and_goes_on_where_it_was(database: Database) -> None:
    (oldest,) = await add(database, [START], visibility="public")
    ids = await add(database, [START + number * SECOND for number in range(1, 25)])
    (newest,) = await add(database, [START + 25 * SECOND], visibility="public")
    lists, pages, before = PostgresImageLists(database.reader, most=10), [], None
    while True:
        wanted = ListedImages(owner_id=OWNER, now=START + SECOND, visibility="public", before=before)
        found = await lists.newest(wanted, 5)
        pages.append([view.id for view in found.images])
        if (before := found.looked_at) is None:
            break
    assert pages == [[newest], [], [oldest]]
    unsorted = await lists.newest(ListedImages(owner_id=OWNER, now=START), 25)
    assert ([view.id for view in unsorted.images], unsorted.looked_at) == ([newest, *ids[::-1]], None)

"""Every migration, up and down, on empty and on populated databases."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import asyncpg
import pytest
from alembic.script import ScriptDirectory

from chitram.platform import migrations
from tests.conftest import in_thread, run_migrations
from tests.support.database import Database
from tests.support.servers import drop_database, new_database

REVISIONS = [
    script.revision for script in ScriptDirectory(str(migrations.migrations_directory())).walk_revisions()
][::-1]
SCHEMA = """
SELECT table_name, column_name, data_type, is_nullable, column_default
FROM information_schema.columns
WHERE table_schema = 'public' AND table_name <> 'alembic_version'
ORDER BY 1, 2
"""
INDEXES = "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1"


@pytest.fixture
async def empty_url(postgres_url: str) -> AsyncIterator[str]:
    url = await new_database(postgres_url)
    yield url
    await drop_database(url)


async def fetch(url: str, statement: str, *arguments: object) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(url)
    try:
        rows: list[asyncpg.Record] = await connection.fetch(statement, *arguments)
        return rows
    finally:
        await connection.close()


async def shape(url: str) -> tuple[list[asyncpg.Record], list[asyncpg.Record]]:
    return await fetch(url, SCHEMA), await fetch(url, INDEXES)


async def test_every_step_up_can_be_taken_back_and_again(empty_url: str) -> None:
    below = "base"
    for revision in REVISIONS:
        run_migrations(empty_url, revision)
        there = await shape(empty_url)
        in_thread(migrations.downgrade, empty_url, below)
        run_migrations(empty_url, revision)
        assert await shape(empty_url) == there
        below = revision


async def test_whether_a_schema_is_of_this_release_is_known_without_alembic(empty_url: str) -> None:
    assert migrations.newest_revision() == REVISIONS[-1]
    for revision in (None, *REVISIONS):
        if revision is not None:
            run_migrations(empty_url, revision)
        assert await asyncio.to_thread(migrations.is_current, empty_url) is (revision == REVISIONS[-1])


async def test_the_bottom_of_the_stairs_is_empty(empty_url: str) -> None:
    run_migrations(empty_url)
    in_thread(migrations.downgrade, empty_url, "base")
    assert await fetch(empty_url, SCHEMA) == []


async def test_the_rows_in_the_code_are_the_tables_of_the_migrations(empty_url: str) -> None:
    run_migrations(empty_url)
    in_thread(migrations.check, empty_url)


async def test_two_processes_may_migrate_at_once(empty_url: str) -> None:
    command = [sys.executable, "-m", "chitram.main.cli", "migrate"]
    environment = os.environ | {"CHITRAM_DATABASE_URL": empty_url}
    both = [await asyncio.create_subprocess_exec(*command, env=environment) for _ in range(2)]
    assert [await process.wait() for process in both] == [0, 0]
    assert await fetch(empty_url, "SELECT version_num FROM alembic_version") == [(REVISIONS[-1],)]


async def test_a_migration_that_cannot_have_its_lock_gives_up(empty_url: str) -> None:
    run_migrations(empty_url, "0001")
    connection = await asyncpg.connect(empty_url)
    try:
        async with connection.transaction():
            await connection.execute("LOCK TABLE blobs IN ACCESS EXCLUSIVE MODE")
            with pytest.raises(Exception, match="lock timeout"):
                run_migrations(empty_url)
    finally:
        await connection.close()
    run_migrations(empty_url)


_AUDIT = "INSERT INTO audit_log (id, action, subject) VALUES (uuidv7(), 'image.delete', 'image:1')"
_WAITS = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


async def test_indexes_are_made_while_others_write(empty_url: str) -> None:
    run_migrations(empty_url, "0004")
    before, meanwhile = await asyncpg.connect(empty_url), await asyncpg.connect(empty_url)
    try:
        async with asyncio.TaskGroup() as group, before.transaction():
            await before.execute(_AUDIT)
            migrating = group.create_task(asyncio.to_thread(migrations.upgrade, empty_url))
            async with asyncio.timeout(20):
                while not await meanwhile.fetch(_WAITS):
                    assert not migrating.done()
            # It waits for the transaction above; whoever comes meanwhile does not wait for it.
            await meanwhile.execute(f"SET lock_timeout = '1s'; {_AUDIT}")
    finally:
        await before.close()
        await meanwhile.close()
    assert await asyncio.to_thread(migrations.is_current, empty_url)


async def test_an_index_that_was_not_ended_is_made_again(empty_url: str) -> None:
    run_migrations(empty_url)
    there = await shape(empty_url)
    in_thread(migrations.downgrade, empty_url, "0004")
    # As if the first two had been made, and the second had failed on the way.
    await fetch(empty_url, "CREATE INDEX ix_blobs_damaged_at ON blobs (damaged_at)")
    await fetch(empty_url, "CREATE INDEX ix_outbox_dead ON outbox (kind)")
    run_migrations(empty_url)
    assert await shape(empty_url) == there


async def test_blobs_from_before_dimensions_show_null(empty_url: str) -> None:
    run_migrations(empty_url, "0001")
    blob_id, image_id = uuid4(), uuid4()
    await fetch(
        empty_url,
        "INSERT INTO blobs (id, sha256, byte_size, format, shard, state) "
        "VALUES ($1, $2, 9, 'jpeg', 'local', 'live')",
        blob_id,
        bytes(32),
    )
    await fetch(
        empty_url,
        "INSERT INTO images (id, blob_id, filename, visibility, created_at, updated_at) "
        "VALUES ($1, $2, 'old.jpg', 'unlisted', now(), now())",
        image_id,
        blob_id,
    )
    run_migrations(empty_url)
    database = await Database.open(empty_url)
    try:
        view = await database.queries.find(image_id)
        assert view is not None
        assert (view.width, view.height, view.filename) == (None, None, "old.jpg")
        async with database.transactions.begin() as transaction:
            [blob] = await transaction.blobs.without_dimensions(UUID(int=0), 10)
        assert blob.id == blob_id
    finally:
        await database.aclose()


def test_migrations_are_numbered_in_order() -> None:
    assert [f"{number:04}" for number in range(1, len(REVISIONS) + 1)] == REVISIONS

"""Stores that rows still name have to be configured, in every process that starts."""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from chitram.images.adapters.postgres.catalogue import _SHARDS
from chitram.images.domain.work import BLOB_ID, CLEAR_RENDITIONS, DROP_COPY, SHARD
from chitram.main.stores import require_stores
from chitram.platform.settings import PREFIX, Settings, SettingsError
from tests.contract.test_transactions import a_blob, keep
from tests.support.database import Database
from tests.support.servers import drop_database, new_database

UPLOAD = """
INSERT INTO uploads (id, token_hash, shard, visibility, created_at, expires_at)
VALUES ($1, $2, $3, 'unlisted', now(), $4)
"""


def settings_of(database_url: str, *names: str) -> Settings:
    return Settings(
        database_url=database_url,
        valkey_url="valkey://127.0.0.1:1/0",
        storage_urls=",".join(f"{name}=file:///nowhere/{name}" for name in names),
    )


async def test_an_empty_database_needs_no_store(database: Database) -> None:
    await require_stores(settings_of(database.url, "any"))


async def test_every_store_that_holds_a_blob_is_needed(database: Database) -> None:
    for shard in ("kept", "old", "old", "older"):
        await keep(database.transactions, a_blob(shard=shard))
    await require_stores(settings_of(database.url, "new", "old", "older", "kept"))
    with pytest.raises(SettingsError, match=r"missing.*'old' \(2\), 'older' \(1\).*move-storage"):
        await require_stores(settings_of(database.url, "new", "kept"))


async def test_many_blobs_are_not_counted_to_the_end(database: Database) -> None:
    async with database.reader.connection() as connection:
        await connection.execute(
            "INSERT INTO blobs (id, sha256, byte_size, format, shard, state)"
            " SELECT gen_random_uuid(), decode(lpad(to_hex(n), 64, '0'), 'hex'), 1, 'png', 'old', 'live'"
            " FROM generate_series(1, 1500) AS n"
        )
    with pytest.raises(SettingsError, match=r"'old' \(1000 or more\)"):
        await require_stores(settings_of(database.url, "new"))


@pytest.mark.parametrize("kind", [DROP_COPY, CLEAR_RENDITIONS])
async def test_a_store_with_something_yet_to_go_is_needed(database: Database, kind: str) -> None:
    async with database.transactions.begin() as transaction:
        payload = {BLOB_ID: str(uuid4()), SHARD: "old"}
        await transaction.outbox.add(kind, payload, delay=timedelta(hours=1))
        await transaction.commit()
    with pytest.raises(SettingsError, match=r"'old' \(1\)"):
        await require_stores(settings_of(database.url, "new"))


async def test_a_store_with_an_upload_under_way_is_needed(database: Database) -> None:
    async with database.reader.connection() as connection:
        await connection.execute(UPLOAD, uuid4(), bytes(32), "old", datetime.now(UTC) + timedelta(hours=1))
    with pytest.raises(SettingsError, match=r"'old' \(1\)"):
        await require_stores(settings_of(database.url, "new"))


async def test_a_database_that_is_away_or_without_tables_is_no_reason_not_to_start(
    postgres_url: str,
) -> None:
    await require_stores(settings_of("postgresql://nobody:x@127.0.0.1:1/none", "any"))
    empty = await new_database(postgres_url)
    try:
        await require_stores(settings_of(empty, "any"))
    finally:
        await drop_database(empty)


@pytest.mark.parametrize(
    "command", [("api",), ("worker",), ("admin", "reconcile")], ids=["api", "worker", "reconcile"]
)
async def test_no_process_starts_without_a_store_that_is_needed(
    database: Database, valkey_url: str, tmp_path: Path, command: tuple[str, ...]
) -> None:
    await keep(database.transactions, a_blob(shard="old"))
    status, said = await run_chitram(
        *command,
        DATABASE_URL=database.url,
        VALKEY_URL=valkey_url,
        DATA_DIR=tmp_path,
        SECRET_KEYS="a-key-that-only-tests-ever-sign-with",
        STORAGE_URLS=f"new=file://{tmp_path}/new",
    )
    assert status == 1
    assert "CHITRAM_STORAGE_URLS: stores are missing" in said
    assert "Traceback" not in said


async def run_chitram(*arguments: str, **settings: object) -> tuple[int | None, str]:
    """Run a command to its end; returns its status and all that it said."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    environment |= {f"{PREFIX}{name}": str(value) for name, value in settings.items()}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "chitram.main.cli", *arguments),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(60):
            said, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        raise
    return process.returncode, said.decode()


async def test_the_check_goes_through_the_index(database: Database) -> None:
    """However many rows there are, it reads as many of them as it counts."""
    async with database.reader.connection() as connection:
        await connection.execute(
            "INSERT INTO blobs (id, sha256, byte_size, format, shard, state)"
            " SELECT gen_random_uuid(), decode(lpad(to_hex(n), 64, '0'), 'hex'), 1, 'png',"
            " 'shard-' || n % 3, 'live' FROM generate_series(1, 30000) AS n"
        )
        await connection.execute("ANALYZE blobs")
        plan = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN {_SHARDS.replace('$1', '1000')}"))
    assert "using ix_blobs_shard_id" in plan
    assert "Seq Scan on blobs" not in plan

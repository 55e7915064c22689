"""What a database that is away, hangs, or loses an answer does to a transaction."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from chitram.kernel.errors import CommitUncertain, DatabaseUnavailable
from tests.contract.test_transactions import HOUR, a_blob, an_image
from tests.support.database import Database, NewUrl
from tests.support.proxy import Mode, Proxy

# What a client is promised.
LIMIT_SECONDS = 5.0


@pytest.fixture
async def proxy(new_url: NewUrl) -> AsyncIterator[Proxy]:
    async with Proxy(await new_url()) as relay:
        yield relay


@pytest.fixture
async def behind(proxy: Proxy) -> AsyncIterator[Database]:
    database = await Database.open(proxy.url)
    yield database
    database.pool.terminate()
    await database.engine.dispose()


@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
@pytest.mark.parametrize("mode", [Mode.CUT, Mode.HANG])
async def test_says_so_in_time_when_the_server_is_away(
    proxy: Proxy,
    behind: Database,
    mode: Mode,
    warm: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    if warm:
        await behind.reader.check()
        async with behind.transactions.begin() as transaction:
            await transaction.images.get(uuid4())
    proxy.mode = mode
    if mode is Mode.CUT:
        proxy.cut_all()
    started = time.monotonic()
    with pytest.raises(DatabaseUnavailable):
        async with behind.transactions.begin() as transaction:
            await transaction.images.get(uuid4())
    assert time.monotonic() - started < LIMIT_SECONDS
    started = time.monotonic()
    with pytest.raises(DatabaseUnavailable):
        await behind.queries.find(uuid4())
    assert time.monotonic() - started < LIMIT_SECONDS


async def test_comes_back_by_itself_when_the_server_does(proxy: Proxy, behind: Database) -> None:
    await behind.reader.check()
    proxy.mode = Mode.CUT
    proxy.cut_all()
    with pytest.raises(DatabaseUnavailable):
        await behind.reader.check()
    proxy.mode = Mode.PASS
    await behind.reader.check()
    async with behind.transactions.begin() as transaction:
        assert await transaction.images.get(uuid4()) is None


async def test_a_lost_answer_to_a_commit_is_uncertain_but_the_change_is_there(
    proxy: Proxy, behind: Database
) -> None:
    blob = a_blob()
    image = an_image(blob)
    proxy.mode = Mode.LOSE_COMMIT_ANSWER
    with pytest.raises(CommitUncertain):
        async with behind.transactions.begin() as transaction:
            await transaction.blobs.add(blob, newer_than=HOUR)
            await transaction.images.add(image)
            await transaction.commit()
    assert behind.relay.entries == []
    proxy.mode = Mode.PASS
    async with behind.transactions.begin() as transaction:
        assert await transaction.images.get(image.id) == image


async def test_a_wrong_statement_is_not_taken_for_an_outage(database: Database) -> None:
    with pytest.raises(ProgrammingError):
        async with database.transactions.begin() as transaction:
            await transaction.session.execute(text("SELECT nonsense"))


async def test_no_connection_is_lost_to_a_cancelled_request(database: Database) -> None:
    async def interrupted() -> None:
        async with database.transactions.begin() as transaction:
            await transaction.session.execute(text("SELECT pg_sleep(30)"))

    for _ in range(10):  # more than the pool holds
        task = asyncio.create_task(interrupted())
        async with database.reader.connection() as connection:
            while not await connection.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(30)' "
                "AND datname = current_database()"
            ):
                await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    async with database.transactions.begin() as transaction:
        assert await transaction.images.get(uuid4()) is None


async def test_a_commit_tells_the_relay_what_it_owes(database: Database) -> None:
    async with database.transactions.begin() as transaction:
        entry_id = await transaction.outbox.add("blob.delete", {"blob_id": "1"})
        await transaction.commit()
    assert [entry.id for entry in database.relay.entries] == [entry_id]

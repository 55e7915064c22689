"""What a database that is away, hangs, or loses an answer does to a transaction."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from uuid import uuid4

import asyncpg
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
    await database.statements.aclose()
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


async def test_a_connection_that_the_server_closed_costs_no_transaction(
    proxy: Proxy, behind: Database
) -> None:
    async with behind.transactions.begin() as transaction:
        lent = await (await transaction.session.connection()).get_raw_connection()
        driver = lent.driver_connection
        assert driver is not None
    accepted = proxy.accepted
    proxy.cut_all()
    async with asyncio.timeout(LIMIT_SECONDS):
        while not driver.is_closed():
            await asyncio.sleep(0.001)
    async with behind.transactions.begin() as transaction:
        assert await transaction.images.get(uuid4()) is None
    assert proxy.accepted == accepted + 1


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


async def test_a_lost_answer_to_a_first_image_is_uncertain_but_the_image_is_there(
    proxy: Proxy, behind: Database
) -> None:
    blob = a_blob()
    image = an_image(blob)
    proxy.mode = Mode.LOSE_COMMIT_ANSWER
    with pytest.raises(CommitUncertain):
        await behind.transactions.add_first(blob, image, newer_than=HOUR)
    assert behind.relay.entries == []
    proxy.mode = Mode.PASS
    assert await behind.transactions.find_live(blob.sha256) == blob
    async with behind.transactions.begin() as transaction:
        assert await transaction.images.get(image.id) == image


@pytest.mark.parametrize("mode", [Mode.CUT, Mode.HANG])
async def test_what_never_reached_the_server_is_not_uncertain(
    proxy: Proxy, behind: Database, mode: Mode
) -> None:
    blob = a_blob()
    proxy.mode = mode
    with pytest.raises(DatabaseUnavailable) as told:
        await behind.transactions.add_first(blob, an_image(blob), newer_than=HOUR)
    assert not isinstance(told.value, CommitUncertain)


async def test_what_the_server_takes_and_never_answers_is_uncertain_in_time(
    proxy: Proxy, behind: Database
) -> None:
    blob = a_blob()
    assert await behind.transactions.find_live(blob.sha256) is None
    proxy.mode = Mode.HANG_AT_COMMIT
    started = time.monotonic()
    with pytest.raises(CommitUncertain) as told:
        await behind.transactions.add_first(blob, an_image(blob), newer_than=HOUR)
    assert told.value.timed_out
    assert time.monotonic() - started < LIMIT_SECONDS
    proxy.mode = Mode.PASS
    assert await behind.transactions.find_live(blob.sha256) is None


async def test_what_the_server_refuses_is_neither_an_outage_nor_uncertain(database: Database) -> None:
    blob = a_blob()
    image = an_image(blob, upload_address="no address")
    with pytest.raises(asyncpg.PostgresError):
        await database.transactions.add_first(blob, image, newer_than=HOUR)
    assert await database.transactions.find_live(blob.sha256) is None
    await database.transactions.add_first(blob, an_image(blob), newer_than=HOUR)


async def test_statements_go_on_over_new_connections_when_the_server_comes_back(
    proxy: Proxy, behind: Database
) -> None:
    digest = a_blob().sha256
    await asyncio.gather(*(behind.transactions.find_live(digest) for _ in range(8)))
    proxy.cut_all()
    async with asyncio.timeout(LIMIT_SECONDS):
        while not all(session.connection.is_closed() for session in behind.statements._idle):
            await asyncio.sleep(0.001)
    assert await behind.transactions.find_live(digest) is None


async def test_statements_go_on_when_a_migration_changes_what_they_return(behind: Database) -> None:
    blob = a_blob()
    await behind.transactions.add_first(blob, an_image(blob), newer_than=HOUR)
    await asyncio.gather(*(behind.transactions.find_live(blob.sha256) for _ in range(8)))
    async with behind.reader.connection() as connection:
        await connection.execute("ALTER TABLE blobs ALTER width TYPE bigint")
    for _ in range(8):
        assert await behind.transactions.find_live(blob.sha256) == blob


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

"""Sessions and API keys in Valkey, over the truth in PostgreSQL."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from chitram.accounts.adapters import session_cache
from chitram.accounts.domain.api_key import hash_of
from chitram.accounts.domain.principal import Scope
from chitram.accounts.domain.work import FORGET_CREDENTIALS, KEY_HASH, SESSION_ID, USER_ID
from chitram.accounts.entrypoints.jobs import ForgetCredentialsJob
from chitram.kernel.errors import DatabaseUnavailable
from chitram.platform.database import Reader, SqlUnitOfWork, make_reader
from chitram.platform.outbox import OutboxEntry
from chitram.platform.settings import Settings
from chitram.platform.shared_cache.epoch import FRESH_SECONDS
from tests.support.credentials import CredentialsProcess, People
from tests.support.database import Database
from tests.support.proxy import Mode, Proxy
from tests.support.servers import own_valkey


@pytest.fixture
async def here(database: Database, proxy: Proxy) -> AsyncIterator[CredentialsProcess]:
    async with CredentialsProcess.running(database.reader, database.url, proxy.url) as process:
        yield process


@pytest.fixture
async def there(database: Database, valkey: str) -> AsyncIterator[CredentialsProcess]:
    async with CredentialsProcess.running(database.reader, database.url, valkey) as process:
        yield process


async def keys_of(process: CredentialsProcess, session_id: UUID) -> list[bytes]:
    return [key async for key in process.client.scan_iter(f"*{session_id}*")]


def fail(proxy: Proxy, mode: Mode) -> None:
    proxy.mode = mode
    if mode is Mode.CUT:
        proxy.cut_all()


async def test_a_session_is_read_once_for_all_processes(
    here: CredentialsProcess, there: CredentialsProcess, people: People
) -> None:
    user_id = await people.user()
    session_id = await people.session(user_id)
    for process in (here, here, there, there):
        found = await process.sessions.find(session_id)
        assert found is not None
        assert (found.session_id, found.user_id, found.is_active, found.is_admin, found.revoked) == (
            *(session_id, user_id, True, False),
            False,
        )
    assert here.queries.asked + there.queries.asked == 1


async def test_what_is_remembered_ends_by_itself(here: CredentialsProcess, people: People) -> None:
    session_id = await people.session(await people.user())
    await here.lets_in(session_id)
    [key] = await keys_of(here, session_id)
    assert 0 < await here.client.ttl(key) <= session_cache.LIFE_SECONDS


async def test_who_signs_out_here_is_refused_there_at_once(
    here: CredentialsProcess, there: CredentialsProcess, people: People
) -> None:
    session_id = await people.session(await people.user())
    assert await here.lets_in(session_id)
    assert await there.lets_in(session_id)
    await people.revoke(session_id)
    began = time.monotonic()
    assert await here.cache.forget(session_id)
    assert time.monotonic() - began < FRESH_SECONDS / 2
    assert not await there.lets_in(session_id)
    assert not await here.lets_in(session_id)


async def test_a_flushed_valkey_logs_nobody_out_and_lets_nobody_back_in(
    here: CredentialsProcess, people: People
) -> None:
    user_id = await people.user()
    open_id, ended_id = await people.session(user_id), await people.session(user_id)
    for session_id in (open_id, ended_id):
        await here.lets_in(session_id)
    await people.revoke(ended_id)
    await here.cache.forget(ended_id)
    await here.client.flushall()
    assert await here.lets_in(open_id)
    assert not await here.lets_in(ended_id)


@pytest.mark.parametrize("mode", [Mode.CUT, Mode.HANG])
async def test_without_valkey_the_database_says_who_may_come_in(
    here: CredentialsProcess, people: People, proxy: Proxy, mode: Mode
) -> None:
    user_id = await people.user()
    open_id, ended_id = await people.session(user_id), await people.session(user_id)
    for session_id in (open_id, ended_id):
        await here.lets_in(session_id)
    fail(proxy, mode)
    await people.revoke(ended_id)
    assert await here.cache.forget(ended_id)
    assert await here.lets_in(open_id)
    assert not await here.lets_in(ended_id)


@pytest.mark.parametrize("mode", [Mode.CUT, Mode.HANG])
async def test_what_valkey_could_not_be_told_is_true_there_too_once_it_is_answered(
    here: CredentialsProcess, there: CredentialsProcess, people: People, proxy: Proxy, mode: Mode
) -> None:
    session_id = await people.session(await people.user())
    assert await here.lets_in(session_id)
    assert await there.lets_in(session_id)
    fail(proxy, mode)
    await people.revoke(session_id)
    # Valkey is well and knows the session still, for all but this process.
    assert await here.cache.forget(session_id)
    assert not await there.lets_in(session_id)


async def test_a_valkey_that_comes_back_with_old_data_lets_nobody_in(
    here: CredentialsProcess, there: CredentialsProcess, people: People, proxy: Proxy
) -> None:
    session_id = await people.session(await people.user())
    assert await here.lets_in(session_id)
    fail(proxy, Mode.HANG)
    await people.revoke(session_id)
    await here.cache.forget(session_id)
    proxy.mode = Mode.PASS
    assert len(await keys_of(there, session_id)) == 1
    async with asyncio.timeout(10):
        while len(await keys_of(there, session_id)) == 1:
            assert not await here.lets_in(session_id)
            assert not await there.lets_in(session_id)


async def test_who_signs_out_just_after_the_epoch_was_raised_is_refused_there_at_once(
    here: CredentialsProcess, there: CredentialsProcess, people: People
) -> None:
    session_id = await people.session(await people.user())
    assert await there.lets_in(session_id)
    # Somebody else has raised it, of which only this process has heard.
    await here.epoch.raise_epoch()
    await people.revoke(session_id)
    await here.cache.forget(session_id)
    assert not await there.lets_in(session_id)


async def test_a_killed_valkey_logs_nobody_out_and_lets_nobody_in(database: Database, people: People) -> None:
    user_id = await people.user()
    open_id, ended_id = await people.session(user_id), await people.session(user_id)
    with own_valkey() as server:
        async with CredentialsProcess.running(database.reader, database.url, server.url) as process:
            for session_id in (open_id, ended_id):
                assert await process.lets_in(session_id)
            server.kill()
            assert await process.lets_in(open_id)
            await people.revoke(ended_id)
            assert await process.cache.forget(ended_id)
            assert not await process.lets_in(ended_id)
            await server.restart()
            assert await process.lets_in(open_id)
            assert not await process.lets_in(ended_id)


async def test_a_revocation_during_a_read_is_not_undone_by_it(
    here: CredentialsProcess, there: CredentialsProcess, people: People
) -> None:
    session_id = await people.session(await people.user())
    with here.queries.held():
        reading = asyncio.create_task(here.lets_in(session_id))
        await here.queries.waiting.wait()
        await people.revoke(session_id)
        await there.cache.forget(session_id)
    # It was let in when it asked; what it read is not kept.
    assert await reading
    assert not await there.lets_in(session_id)
    assert not await here.lets_in(session_id)


async def test_a_renewed_session_outlives_what_is_remembered_of_it(
    here: CredentialsProcess, people: People
) -> None:
    session_id = await people.session(await people.user(), timedelta(seconds=0.2))
    await here.lets_in(session_id)
    later = datetime.now(UTC) + timedelta(hours=1)
    await people.renew(session_id, later)
    async with asyncio.timeout(10):
        asked_at = datetime.now(UTC)
        while (found := await here.sessions.find(session_id)) and found.expires_at != later:
            assert found.expires_at > asked_at
            asked_at = datetime.now(UTC)
    assert found is not None


async def test_what_changes_of_an_account_reaches_all_its_sessions_and_keys(
    here: CredentialsProcess, there: CredentialsProcess, people: People
) -> None:
    user_id, other_id = await people.user(), await people.user()
    sessions = [await people.session(user_id) for _ in range(3)]
    other = await people.session(other_id)
    key = hash_of(await people.key(user_id, Scope.READ))
    for session_id in (*sessions, other):
        await there.lets_in(session_id)
    assert (found := await there.keys.find(key)) is not None
    assert found.is_active
    await people.change(user_id, is_active=False, is_admin=True)
    assert await here.cache.forget_account(user_id)
    asked = there.queries.asked
    assert [await there.lets_in(session_id) for session_id in sessions] == [False] * 3
    assert await there.lets_in(other)
    assert there.queries.asked == asked + 3
    assert (found := await there.keys.find(key)) is not None
    assert (found.is_active, found.is_admin) == (False, True)


async def test_an_account_with_very_many_sessions_makes_all_caches_cold_instead(
    here: CredentialsProcess, there: CredentialsProcess, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_cache, "_MOST_AT_ONCE", 2)
    user_id = await people.user()
    sessions = [await people.session(user_id) for _ in range(3)]
    for session_id in sessions:
        await there.lets_in(session_id)
    before = await here.epoch.read()
    await people.change(user_id, is_active=False)
    assert await here.cache.forget_account(user_id)
    assert [await there.lets_in(session_id) for session_id in sessions] == [False] * 3
    assert await here.epoch.read() == before + 1


async def test_a_key_is_read_once_and_gone_there_at_once(
    here: CredentialsProcess, there: CredentialsProcess, people: People
) -> None:
    user_id = await people.user()
    key = await people.key(user_id, Scope.READ, Scope.ADMIN)
    for process in (here, there):
        found = await process.keys.find(hash_of(key))
        assert found is not None
        assert (found.user_id, found.scopes) == (user_id, frozenset({Scope.READ, Scope.ADMIN}))
    await people.remove_key(key)
    assert await there.keys.find(hash_of(key)) is not None
    assert await here.cache.forget_key(hash_of(key))
    assert await there.keys.find(hash_of(key)) is None


async def test_what_nobody_could_be_told_is_said_so(database: Database, valkey: str, people: People) -> None:
    session_id = await people.session(await people.user())
    async with Proxy(database.url) as postgres, Proxy(valkey) as relay:
        pool = await make_reader(Settings(database_url=postgres.url))
        async with CredentialsProcess.running(Reader(pool), postgres.url, relay.url) as process:
            fail(relay, Mode.CUT)
            fail(postgres, Mode.CUT)
            assert not await process.cache.forget(session_id)
            assert not await process.cache.forget_account(session_id)
        pool.terminate()


@pytest.mark.parametrize("mode", [Mode.PASS, Mode.CUT])
async def test_what_a_process_left_undone_is_done_by_the_worker(
    database: Database, valkey: str, people: People, mode: Mode
) -> None:
    user_id = await people.user()
    session_id, key = await people.session(user_id), hash_of(await people.key(user_id))
    async with (
        Proxy(valkey) as relay,
        CredentialsProcess.running(database.reader, database.url, valkey) as there,
    ):
        assert await there.lets_in(session_id)
        assert await there.keys.find(key) is not None
        # It committed, and was killed.
        await people.change(user_id, is_active=False)
        await database.pool.execute("DELETE FROM api_keys WHERE key_hash = $1", key)
        async with CredentialsProcess.running(database.reader, database.url, relay.url) as worker:
            fail(relay, mode)
            job = ForgetCredentialsJob(worker.cache, database.sessions, database.relay)
            for payload in ({USER_ID: str(user_id)}, {KEY_HASH: key.hex()}, {SESSION_ID: str(session_id)}):
                async with SqlUnitOfWork(database.sessions, database.relay) as transaction:
                    entry_id = await transaction.outbox.add(FORGET_CREDENTIALS, payload)
                    await transaction.commit()
                await job(OutboxEntry(entry_id, FORGET_CREDENTIALS, payload))
        assert not await there.lets_in(session_id)
        assert await there.keys.find(key) is None
    assert not await database.pool.fetchval("SELECT count(*) FROM outbox")


async def test_the_worker_tries_again_what_it_could_tell_nobody(
    database: Database, valkey: str, people: People
) -> None:
    session_id = await people.session(await people.user())
    async with Proxy(database.url) as postgres, Proxy(valkey) as relay:
        pool = await make_reader(Settings(database_url=postgres.url))
        async with CredentialsProcess.running(Reader(pool), postgres.url, relay.url) as process:
            fail(relay, Mode.CUT)
            fail(postgres, Mode.CUT)
            job = ForgetCredentialsJob(process.cache, database.sessions, database.relay)
            with pytest.raises(DatabaseUnavailable):
                await job(OutboxEntry(session_id, FORGET_CREDENTIALS, {SESSION_ID: str(session_id)}))
        pool.terminate()

"""What every implementation of the transactions of accounts does, in memory and in PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from secrets import token_bytes
from typing import Any
from uuid import UUID, uuid4

import pytest

from chitram.accounts.adapters.postgres.queries import PostgresSessionQueries
from chitram.accounts.adapters.postgres.unit_of_work import PostgresAccountTransactions
from chitram.accounts.domain.api_key import ApiKey
from chitram.accounts.domain.errors import EmailTaken
from chitram.accounts.domain.principal import Scope
from chitram.accounts.domain.session import Session
from chitram.accounts.domain.user import Email, User
from chitram.accounts.ports import AccountTransactions
from chitram.kernel.ids import new_id
from tests.support.database import Database, NewUrl
from tests.support.fake_accounts import FakeAccountTransactions
from tests.support.fakes import a_user

NOW = datetime.now(UTC)
HOUR = timedelta(hours=1)
LONG_AGO = NOW - 1000 * HOUR


@pytest.fixture(params=["memory", "postgres"])
async def accounts(request: pytest.FixtureRequest, new_url: NewUrl) -> AsyncIterator[AccountTransactions]:
    if request.param == "memory":
        yield FakeAccountTransactions()
        return
    database = await Database.open(await new_url())
    yield PostgresAccountTransactions(database.sessions, database.relay)
    await database.aclose()


async def add(accounts: AccountTransactions, *given: User | Session) -> None:
    async with accounts.begin() as transaction:
        for each in given:
            if isinstance(each, User):
                await transaction.users.add(each)
            else:
                await transaction.sessions.add(each)
        await transaction.commit()


async def a_user_with(accounts: AccountTransactions, **fields: Any) -> User:
    user = a_user(**fields)
    await add(accounts, user)
    return user


def a_session(user: User, **fields: Any) -> Session:
    given: dict[str, Any] = {
        "id": new_id(NOW),
        "user_id": user.id,
        "created_at": NOW,
        "last_used_at": NOW,
        "expires_at": NOW + HOUR,
    }
    return Session(**(given | fields))


async def session(accounts: AccountTransactions, session_id: UUID) -> Session | None:
    async with accounts.begin() as transaction:
        return await transaction.sessions.get(session_id)


async def test_an_account_is_there_with_every_field(accounts: AccountTransactions) -> None:
    plain = await a_user_with(accounts)
    full = await a_user_with(
        accounts,
        email=Email("Ünï@example.com", "ünï@example.com"),
        is_active=False,
        is_admin=True,
        quota_bytes=10**14,
        quota_images=0,
        used_bytes=7,
        used_images=1,
    )
    async with accounts.begin() as transaction:
        assert await transaction.users.get(plain.id) == plain
        assert await transaction.users.lock(full.id) == full
        assert await transaction.users.find(full.email) == (full, False)
        assert await transaction.users.get(uuid4()) is None
        assert await transaction.users.lock(uuid4()) is None
        assert await transaction.users.find(Email("b@example.com", "b@example.com")) is None


async def test_an_address_is_taken_whatever_its_case(accounts: AccountTransactions) -> None:
    await a_user_with(accounts, email=Email.of("Someone@example.com"))
    async with accounts.begin() as transaction:
        with pytest.raises(EmailTaken):
            await transaction.users.add(a_user(email=Email.of("sOMEONE@example.com")))
        # The transaction is over.
    async with accounts.begin() as transaction:
        found = await transaction.users.find(Email.of("SOMEONE@EXAMPLE.COM"))
        assert found
        assert found[0].email.address == "Someone@example.com"


async def test_a_change_leaves_what_is_used_alone(accounts: AccountTransactions) -> None:
    user = await a_user_with(accounts, used_bytes=7, used_images=1)
    changes: dict[str, Any] = {
        "password_hash": "another",
        "is_active": False,
        "is_admin": True,
        "quota_bytes": 0,
        "quota_images": 3,
        "updated_at": NOW + HOUR,
    }
    async with accounts.begin() as transaction:
        await transaction.users.change(replace(user, **changes, used_bytes=0, used_images=0))
        await transaction.commit()
    async with accounts.begin() as transaction:
        assert await transaction.users.get(user.id) == replace(user, **changes)


async def test_somebody_is_familiar_where_they_signed_in_before(accounts: AccountTransactions) -> None:
    user, other = await a_user_with(accounts), await a_user_with(accounts)
    await add(
        accounts,
        a_session(user, origin="here", revoked_at=NOW),
        a_session(user, origin=None),
        a_session(other, origin="there"),
    )
    async with accounts.begin() as transaction:
        for origin, is_familiar in (("here", True), ("there", False), (None, False)):
            assert await transaction.users.find(user.email, origin) == (user, is_familiar)


async def test_a_session_is_there_with_every_field(accounts: AccountTransactions) -> None:
    user = await a_user_with(accounts)
    plain = a_session(user)
    full = a_session(
        user, created_at=NOW - HOUR, last_used_at=NOW - HOUR / 2, revoked_at=NOW, origin="somewhere"
    )
    await add(accounts, plain, full)
    assert await session(accounts, plain.id) == plain
    assert await session(accounts, full.id) == full
    assert await session(accounts, uuid4()) is None


async def test_a_token_leads_to_its_session_and_says_when_it_was_used(accounts: AccountTransactions) -> None:
    opened = a_session(await a_user_with(accounts))
    await add(accounts, opened)
    used, fresh = token_bytes(32), token_bytes(32)
    async with accounts.begin() as transaction:
        await transaction.sessions.add_token(opened.id, used, NOW)
        await transaction.sessions.use_token(used, NOW + HOUR)
        await transaction.sessions.add_token(opened.id, fresh, NOW + HOUR)
        await transaction.sessions.prolong(opened.id, NOW + HOUR, NOW + 2 * HOUR)
        await transaction.commit()
    prolonged = replace(opened, last_used_at=NOW + HOUR, expires_at=NOW + 2 * HOUR)
    async with accounts.begin() as transaction:
        assert await transaction.sessions.lock_by_token(used) == (prolonged, NOW + HOUR)
        assert await transaction.sessions.lock_by_token(fresh) == (prolonged, None)
        assert await transaction.sessions.lock_by_token(token_bytes(32)) is None


async def test_a_session_is_revoked_once(accounts: AccountTransactions) -> None:
    opened = a_session(await a_user_with(accounts))
    await add(accounts, opened)
    async with accounts.begin() as transaction:
        assert await transaction.sessions.revoke(opened.id, NOW)
        assert not await transaction.sessions.revoke(opened.id, NOW + HOUR)
        assert not await transaction.sessions.revoke(uuid4(), NOW)
        await transaction.commit()
    assert await session(accounts, opened.id) == replace(opened, revoked_at=NOW)


async def test_the_least_recently_used_sessions_make_room(accounts: AccountTransactions) -> None:
    user, other = await a_user_with(accounts), await a_user_with(accounts)
    kept = [a_session(user, last_used_at=NOW - age * HOUR) for age in (0, 1)]
    superfluous = [a_session(user, last_used_at=NOW - age * HOUR) for age in (2, 3)]
    untouched = [
        a_session(user, last_used_at=LONG_AGO, revoked_at=LONG_AGO),
        a_session(user, last_used_at=LONG_AGO, expires_at=NOW - HOUR),
        a_session(other, last_used_at=LONG_AGO),
    ]
    await add(accounts, *superfluous, *untouched, *kept)
    async with accounts.begin() as transaction:
        revoked = await transaction.sessions.revoke_but_newest(user.id, 2, NOW)
        assert set(revoked) == {each.id for each in superfluous}
        assert await transaction.sessions.revoke_but_newest(user.id, 2, NOW) == []
        await transaction.commit()
    for each in (*kept, *untouched):
        assert await session(accounts, each.id) == each
    async with accounts.begin() as transaction:
        assert set(await transaction.sessions.revoke_but_newest(user.id, 0, NOW)) == {one.id for one in kept}


async def test_what_is_over_is_cleared_away_batch_by_batch(accounts: AccountTransactions) -> None:
    """However many tokens a session has: it goes with the last of them."""
    user = await a_user_with(accounts)
    over = [a_session(user, expires_at=LONG_AGO), a_session(user, revoked_at=LONG_AGO)]
    kept = [a_session(user), a_session(user, revoked_at=NOW), a_session(user, expires_at=NOW)]
    await add(accounts, *over, *kept)
    old, recent, unused, *orphans = (token_bytes(32) for _ in range(6))
    async with accounts.begin() as transaction:
        sessions = transaction.sessions
        for token in (old, recent, unused):
            await sessions.add_token(kept[0].id, token, LONG_AGO)
        for token in orphans:
            await sessions.add_token(over[0].id, token, LONG_AGO)
        await sessions.use_token(old, LONG_AGO)
        await sessions.use_token(recent, NOW)
        await transaction.commit()
    removed = []
    for _ in range(4):
        async with accounts.begin() as transaction:
            removed.append(await transaction.sessions.clear(over=NOW - HOUR, used=NOW - HOUR, limit=1))
            await transaction.commit()
    # A used token, one of a session that is over, and the other such session; then two by two.
    assert removed == [3, 1, 2, 0]
    async with accounts.begin() as transaction:
        assert [await transaction.sessions.get(each.id) for each in over] == [None, None]
        assert [await transaction.sessions.get(each.id) for each in kept] == kept
        found = [await transaction.sessions.lock_by_token(each) for each in (old, *orphans, recent, unused)]
    assert found == [None] * 4 + [(kept[0], NOW), (kept[0], None)]


async def test_an_account_removes_keys_of_its_own_alone(accounts: AccountTransactions) -> None:
    user, other = await a_user_with(accounts), await a_user_with(accounts)
    keys = [
        ApiKey(
            id=new_id(NOW),
            user_id=user.id,
            name="a key",
            key_hash=token_bytes(32),
            hint="chk_abcdef",
            scopes=frozenset({Scope.READ}),
            created_at=NOW,
            expires_at=expires_at,
        )
        for expires_at in (None, LONG_AGO)
    ]
    async with accounts.begin() as transaction:
        for key in keys:
            await transaction.api_keys.add(key)
        await transaction.commit()
    async with accounts.begin() as transaction:
        assert [await transaction.api_keys.count(each.id) for each in (user, other)] == [2, 0]
        assert await transaction.api_keys.remove(other.id, keys[0].id) is None
        assert await transaction.api_keys.remove(user.id, uuid4()) is None
        assert await transaction.api_keys.remove(user.id, keys[0].id) == keys[0].key_hash
        assert await transaction.api_keys.remove(user.id, keys[0].id) is None
        assert await transaction.api_keys.count(user.id) == 1


async def test_a_request_sees_what_its_session_and_account_have_become(database: Database) -> None:
    accounts = PostgresAccountTransactions(database.sessions, database.relay)
    user = await a_user_with(accounts)
    opened = a_session(user)
    await add(accounts, opened)
    queries = PostgresSessionQueries(database.reader)
    view = await queries.find(opened.id)
    assert view
    assert (view.session_id, view.user_id, view.expires_at) == (opened.id, user.id, opened.expires_at)
    assert (view.is_active, view.is_admin, view.revoked) == (True, False, False)
    async with accounts.begin() as transaction:
        await transaction.users.change(replace(user, is_active=False, is_admin=True))
        await transaction.sessions.revoke(opened.id, NOW)
        await transaction.commit()
    view = await queries.find(opened.id)
    assert view
    assert (view.is_active, view.is_admin, view.revoked) == (False, True, True)
    assert await queries.find(uuid4()) is None

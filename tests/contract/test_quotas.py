"""What every implementation of quotas and of the audit log does, in memory and in PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select
from structlog.testing import capture_logs

from chitram.accounts.adapters.postgres.audit import PostgresAuditLog
from chitram.accounts.adapters.postgres.queries import PostgresAccountQueries
from chitram.accounts.adapters.postgres.quotas import PostgresQuotas
from chitram.accounts.adapters.postgres.rows import AuditRow
from chitram.accounts.adapters.postgres.unit_of_work import PostgresAccountTransactions
from chitram.accounts.public import ANONYMOUS, AuditLog, InvalidToken, Principal, QuotaExceeded, Quotas
from chitram.images.ports import Transactions
from tests.support.database import Database, NewUrl
from tests.support.fakes import AuditLine, FakeAuditLog, FakeClock, FakeQuotas, FakeTransactions, a_user

MakeQuotas = Callable[[int, int], Quotas]


@dataclass
class Accounts:
    """Accounts in one of the two, and how to see what is there."""

    transactions: Transactions
    make_quotas: MakeQuotas
    audit: AuditLog
    database: Database | None = None

    async def add(self, **fields: Any) -> UUID:
        user = a_user(**fields)
        if isinstance(self.transactions, FakeTransactions):
            self.transactions.tables.users[user.id] = user
        else:
            assert self.database
            async with PostgresAccountTransactions(self.database.sessions, self.database.relay).begin() as it:
                await it.users.add(user)
                await it.commit()
        return user.id

    async def used(self, user_id: UUID) -> tuple[int, int]:
        if isinstance(self.transactions, FakeTransactions):
            user = self.transactions.tables.users[user_id]
            return user.used_bytes, user.used_images
        assert self.database
        view = await PostgresAccountQueries(self.database.reader, 0, 0).find(user_id)
        assert view
        return view.used_bytes, view.used_images

    async def lines(self) -> list[AuditLine]:
        if isinstance(self.transactions, FakeTransactions):
            return self.transactions.tables.audit
        assert self.database
        async with self.database.sessions() as session:
            rows = await session.scalars(select(AuditRow).order_by(AuditRow.subject))
            return [AuditLine(row.actor_id, row.action, row.subject, row.details) for row in rows]

    async def charge(self, quotas: Quotas, user_id: UUID, byte_size: int) -> None:
        async with self.transactions.begin() as transaction:
            await quotas.charge(transaction, user_id, byte_size)
            await transaction.commit()

    async def release(self, quotas: Quotas, user_id: UUID, byte_size: int) -> None:
        async with self.transactions.begin() as transaction:
            await quotas.release(transaction, user_id, byte_size)
            await transaction.commit()


@pytest.fixture(params=["memory", "postgres"])
async def accounts(request: pytest.FixtureRequest, new_url: NewUrl) -> AsyncIterator[Accounts]:
    if request.param == "memory":
        yield Accounts(FakeTransactions(), FakeQuotas, FakeAuditLog())
        return
    database = await Database.open(await new_url())
    audit = PostgresAuditLog(FakeClock())
    yield Accounts(database.transactions, PostgresQuotas, audit, database)
    await database.aclose()


async def test_counts_each_image_and_its_bytes(accounts: Accounts) -> None:
    quotas, user_id = accounts.make_quotas(0, 0), await accounts.add()
    await accounts.charge(quotas, user_id, 1000)
    await accounts.charge(quotas, user_id, 10**13)
    assert await accounts.used(user_id) == (10**13 + 1000, 2)
    await accounts.release(quotas, user_id, 1000)
    assert await accounts.used(user_id) == (10**13, 1)


async def test_a_charge_that_is_not_committed_counts_for_nothing(accounts: Accounts) -> None:
    quotas, user_id = accounts.make_quotas(0, 0), await accounts.add()
    async with accounts.transactions.begin() as transaction:
        await quotas.charge(transaction, user_id, 1000)
    assert await accounts.used(user_id) == (0, 0)


async def test_the_last_byte_may_be_used_and_no_more(accounts: Accounts) -> None:
    quotas, user_id = accounts.make_quotas(1000, 0), await accounts.add()
    await accounts.charge(quotas, user_id, 400)
    with pytest.raises(QuotaExceeded) as refused:
        await accounts.charge(quotas, user_id, 601)
    assert refused.value.details == {
        "quota_bytes": 1000,
        "used_bytes": 400,
        "quota_images": None,
        "used_images": 1,
    }
    await accounts.charge(quotas, user_id, 600)
    assert await accounts.used(user_id) == (1000, 2)


async def test_the_number_of_images_has_a_limit_of_its_own(accounts: Accounts) -> None:
    quotas, user_id = accounts.make_quotas(0, 2), await accounts.add()
    await accounts.charge(quotas, user_id, 1)
    await accounts.charge(quotas, user_id, 1)
    with pytest.raises(QuotaExceeded) as refused:
        await accounts.charge(quotas, user_id, 1)
    assert refused.value.details["quota_images"] == 2
    assert refused.value.details["quota_bytes"] is None


async def test_a_quota_of_the_account_counts_instead_of_the_general_one(accounts: Accounts) -> None:
    quotas = accounts.make_quotas(100, 1)
    more, free = await accounts.add(quota_bytes=200), await accounts.add(quota_bytes=0, quota_images=0)
    await accounts.charge(quotas, more, 200)
    with pytest.raises(QuotaExceeded):
        await accounts.charge(quotas, more, 0)
    await accounts.charge(quotas, free, 10**9)
    await accounts.charge(quotas, free, 10**9)


async def test_nothing_is_charged_to_an_account_that_is_not_there(accounts: Accounts) -> None:
    with pytest.raises(InvalidToken):
        await accounts.charge(accounts.make_quotas(0, 0), uuid4(), 1)


async def test_what_is_used_is_never_below_nothing(accounts: Accounts) -> None:
    quotas, user_id = accounts.make_quotas(0, 0), await accounts.add()
    await accounts.charge(quotas, user_id, 10)
    with capture_logs() as logged:
        await accounts.release(quotas, user_id, 11)
        await accounts.release(quotas, uuid4(), 11)
    assert await accounts.used(user_id) == (0, 0)
    if accounts.database:
        assert [line["log_level"] for line in logged] == ["error", "error"]


async def test_many_at_once_never_exceed_a_quota_and_use_all_of_it(database: Database) -> None:
    accounts = Accounts(database.transactions, PostgresQuotas, PostgresAuditLog(FakeClock()), database)
    quotas, user_id = PostgresQuotas(1000, 0), await accounts.add()
    results = await asyncio.gather(
        *(accounts.charge(quotas, user_id, 100) for _ in range(30)), return_exceptions=True
    )
    assert [result for result in results if not isinstance(result, QuotaExceeded)] == [None] * 10
    assert await accounts.used(user_id) == (1000, 10)


@pytest.mark.parametrize("commits", [True, False], ids=["committed", "taken-back"])
async def test_a_charge_waits_for_room_that_is_being_made(database: Database, *, commits: bool) -> None:
    accounts = Accounts(database.transactions, PostgresQuotas, PostgresAuditLog(FakeClock()), database)
    quotas, user_id = PostgresQuotas(100, 0), await accounts.add()
    await accounts.charge(quotas, user_id, 100)
    async with database.transactions.begin() as releasing:
        await quotas.release(releasing, user_id, 100)
        charging = asyncio.create_task(accounts.charge(quotas, user_id, 100))
        while not charging.done():
            if await database.pool.fetchval("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"):
                break
            await asyncio.sleep(0.005)
        if commits:
            await releasing.commit()
    if commits:
        await charging
    else:
        with pytest.raises(QuotaExceeded):
            await charging
    assert await accounts.used(user_id) == (100, 1)


async def test_the_audit_log_says_who_did_what_to_whom(accounts: Accounts) -> None:
    admin = Principal(user_id=uuid4(), is_admin=True)
    async with accounts.transactions.begin() as transaction:
        await accounts.audit.record(transaction, actor=admin, action="image.delete", subject="image:1")
        await accounts.audit.record(
            transaction, actor=ANONYMOUS, action="user.change", subject="user:2", details={"is_admin": True}
        )
        await transaction.commit()
    assert await accounts.lines() == [
        AuditLine(admin.user_id, "image.delete", "image:1", {}),
        AuditLine(None, "user.change", "user:2", {"is_admin": True}),
    ]


async def test_the_audit_log_tells_nothing_that_was_not_committed(accounts: Accounts) -> None:
    async with accounts.transactions.begin() as transaction:
        await accounts.audit.record(transaction, actor=ANONYMOUS, action="image.delete", subject="image:1")
    assert await accounts.lines() == []

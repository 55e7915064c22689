"""What every implementation of the idempotency keys does, in memory and in PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from secrets import token_bytes
from uuid import uuid4

import pytest
from cryptography.exceptions import InvalidTag

from chitram.images.adapters.answer_sealer import AesGcmSealer
from chitram.images.domain.idempotency import IdempotencyKey, KeyRecord
from chitram.images.ports import Transactions
from tests.support.database import Database, NewUrl
from tests.support.fakes import FakeTransactions

HOUR = timedelta(hours=1)
OVER = timedelta(seconds=-1)


@pytest.fixture(params=["memory", "postgres"])
async def transactions(request: pytest.FixtureRequest, new_url: NewUrl) -> AsyncIterator[Transactions]:
    if request.param == "memory":
        yield FakeTransactions()
        return
    database = await Database.open(await new_url())
    yield database.transactions
    await database.aclose()


class Holder:
    """Somebody who works under a key."""

    def __init__(self, transactions: Transactions, key_hash: bytes | None = None) -> None:
        self.transactions = transactions
        self.key_hash = key_hash or token_bytes(32)
        self.digest = token_bytes(32)
        self.lease = uuid4()
        self.image_id = uuid4()

    async def claim(self, lease_for: timedelta = HOUR, life: timedelta = HOUR) -> bool:
        async with self.transactions.begin() as transaction:
            claimed = await transaction.keys.claim(
                self.key_hash, self.digest, self.lease, lease_for=lease_for, life=life
            )
            await transaction.commit()
            return claimed

    async def settle(self, answer: bytes = b"answer", life: timedelta = HOUR) -> bool:
        async with self.transactions.begin() as transaction:
            settled = await transaction.keys.settle(
                self.key_hash, self.lease, self.image_id, answer, life=life
            )
            await transaction.commit()
            return settled

    async def free(self) -> None:
        async with self.transactions.begin() as transaction:
            await transaction.keys.free(self.key_hash, self.lease)
            await transaction.commit()

    async def found(self) -> KeyRecord | None:
        async with self.transactions.begin() as transaction:
            return await transaction.keys.get(self.key_hash)

    def other(self) -> Holder:
        return Holder(self.transactions, self.key_hash)


async def test_a_key_is_one_holders_until_it_is_freed(transactions: Transactions) -> None:
    holder = Holder(transactions)
    assert await holder.found() is None
    assert await holder.claim()
    assert await holder.found() == KeyRecord(holder.digest)
    assert not await holder.other().claim()
    await holder.other().free()
    assert not await holder.other().claim()
    await holder.free()
    assert await holder.found() is None
    assert await holder.other().claim()


async def test_a_settled_key_is_nobodys_and_keeps_its_answer(transactions: Transactions) -> None:
    holder = Holder(transactions)
    assert await holder.claim(lease_for=OVER)
    assert await holder.settle()
    assert await holder.found() == KeyRecord(holder.digest, b"answer")
    assert not await holder.other().claim()
    assert not await holder.settle(b"another answer")
    await holder.free()
    assert await holder.found() == KeyRecord(holder.digest, b"answer")


async def test_another_may_have_a_key_whose_lease_is_over(transactions: Transactions) -> None:
    slow = Holder(transactions)
    assert await slow.claim(lease_for=OVER)
    quick = slow.other()
    assert await quick.claim()
    assert await slow.found() == KeyRecord(quick.digest)
    assert not await slow.settle()
    await slow.free()
    assert await quick.settle()


async def test_a_renewed_lease_lasts(transactions: Transactions) -> None:
    holder = Holder(transactions)
    assert await holder.claim(lease_for=OVER)
    async with transactions.begin() as transaction:
        await transaction.keys.renew(holder.key_hash, uuid4(), lease_for=2 * HOUR)
        await transaction.keys.renew(holder.key_hash, holder.lease, lease_for=HOUR)
        await transaction.commit()
    assert not await holder.other().claim()


async def test_a_key_whose_time_is_over_is_as_new(transactions: Transactions) -> None:
    holder = Holder(transactions)
    assert await holder.claim()
    assert await holder.settle(life=OVER)
    other = holder.other()
    assert await other.claim()
    assert await holder.found() == KeyRecord(other.digest)


async def test_forgets_the_key_of_an_image(transactions: Transactions) -> None:
    holder, kept = Holder(transactions), Holder(transactions)
    for each in (holder, kept):
        assert await each.claim()
        assert await each.settle()
    async with transactions.begin() as transaction:
        await transaction.keys.forget(holder.image_id)
        await transaction.keys.forget(uuid4())
        await transaction.commit()
    assert await holder.found() is None
    assert await kept.found() is not None


async def test_forgets_keys_whose_time_is_over(transactions: Transactions) -> None:
    over, kept = [Holder(transactions) for _ in range(3)], Holder(transactions)
    assert await kept.claim(lease_for=OVER)
    for each in over:
        assert await each.claim(life=OVER)
    async with transactions.begin() as transaction:
        assert await transaction.keys.forget_expired(2) == 2
        assert await transaction.keys.forget_expired(2) == 1
        assert await transaction.keys.forget_expired(2) == 0
        await transaction.commit()
    assert [await each.found() for each in over] == [None] * 3
    assert await kept.found() is not None


async def test_of_many_who_claim_a_key_at_once_one_gets_it(database: Database) -> None:
    first = Holder(database.transactions)
    claims = [(first if place == 0 else first.other()).claim() for place in range(8)]
    assert sorted(await asyncio.gather(*claims)) == [False] * 7 + [True]


def test_an_answer_is_read_with_its_key_alone() -> None:
    sealer, key = AesGcmSealer(), IdempotencyKey("one", b"1" * 32)
    sealed = sealer.seal(b"a delete token", key)
    assert b"delete" not in sealed
    assert sealer.open(sealed, key) == b"a delete token"
    assert sealer.seal(b"a delete token", key) != sealed
    for other in (IdempotencyKey("two", b"1" * 32), IdempotencyKey("one", b"2" * 32)):
        with pytest.raises(InvalidTag):
            sealer.open(sealed, other)

"""One sweep: what it finds in the outbox and in the queues, and what it leaves there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import UUID, uuid4

import pytest
from saq.queue.redis import RedisQueue
from sqlalchemy import text
from valkey.asyncio import Valkey

from chitram.platform import queue
from chitram.platform.attempts import Attempts, take
from chitram.platform.database import SqlUnitOfWork
from chitram.platform.outbox import OutboxEntry
from chitram.platform.queue import JobQueues, QueueName, QueueRelay
from chitram.platform.settings import Settings
from chitram.platform.sweep import Sweep
from chitram.platform.valkey import ValkeyGuard, make_valkey
from tests.support.database import Database

KIND = "test.work"
OTHER_KIND = "test.other_work"


@dataclass
class House:
    """An outbox, its queue, and a sweep between them."""

    database: Database
    client: Valkey
    queues: JobQueues
    sweep: Sweep

    @property
    def queue(self) -> RedisQueue:
        return self.queues[QueueName.URGENT]

    async def add(self, kind: str = KIND) -> UUID:
        async with self.database.transactions.begin() as transaction:
            entry_id = await transaction.outbox.add(kind, {})
            await transaction.commit()
        return entry_id

    async def execute(self, statement: str) -> None:
        async with self.database.transactions.begin() as transaction:
            await transaction.session.execute(text(statement))
            await transaction.commit()

    async def waiting(self, name: QueueName = QueueName.URGENT) -> list[str]:
        """Ids in a queue, the next first."""
        waiting = self.queues[name]
        found = await self.client.lrange(waiting.namespace("queued"), 0, -1)  # type: ignore[misc] # valkey-py's
        return [waiting.job_key_from_id(job_id.decode()) for job_id in found]


@pytest.fixture
async def house(database: Database, valkey_url: str) -> AsyncIterator[House]:
    # A Valkey database of these tests' own.
    client = make_valkey(Settings(valkey_url=f"{valkey_url.rpartition('/')[0]}/4"))
    await client.flushdb()
    queues = JobQueues(client, {KIND: QueueName.URGENT, OTHER_KIND: QueueName.UPKEEP})
    sweep = Sweep(lambda: SqlUnitOfWork(database.sessions, database.relay), queues)
    yield House(database, client, queues, sweep)
    await client.aclose()


async def test_what_is_new_is_handed_over_once(house: House) -> None:
    entry_id = await house.add()
    assert [await house.sweep(), await house.sweep()] == [1, 0]
    assert await house.waiting() == [str(entry_id)]


async def test_what_still_waits_after_long_is_not_handed_over_twice(house: House) -> None:
    entry_id = await house.add()
    await house.sweep()
    await house.execute("UPDATE outbox SET enqueued_at = now() - interval '1 hour'")
    assert await house.sweep() == 1
    assert await house.waiting() == [str(entry_id)]


async def test_what_a_dead_worker_was_at_is_handed_over_by_the_first_sweep_after_its_lease(
    house: House,
) -> None:
    entry_id = await house.add()
    await house.sweep()
    assert await house.queue.dequeue() is not None
    assert await take(house.database.statements, uuid4(), entry_id, [KIND]) is not None
    assert await house.sweep() == 0
    await house.execute("UPDATE outbox SET leased_until = now() - interval '1 s'")
    assert await house.sweep() == 1
    assert await house.waiting() == [str(entry_id)]
    assert await house.queues.taken(QueueName.URGENT) == set()


async def test_what_only_seems_to_be_in_the_queue_does_not_stay_so_for_ever(house: House) -> None:
    entry_id = await house.add()
    await house.sweep()
    await house.client.delete(house.queue.namespace("queued"))
    await house.execute("UPDATE outbox SET enqueued_at = now() - interval '1 hour'")
    assert await house.sweep() == 1
    assert await house.waiting() == [str(entry_id)]


async def test_a_flush_while_the_queues_are_filled_again_is_noticed_too(house: House) -> None:
    entry_id = await house.add()
    await house.sweep()
    await house.client.flushdb()
    assert not await house.queues.are_whole()
    await house.queues.filling()
    assert not await house.queues.are_whole()
    await house.client.flushdb()
    await house.queues.filled()
    assert not await house.queues.are_whole()
    assert [await house.sweep(), await house.sweep()] == [1, 0]
    assert await house.waiting() == [str(entry_id)]


async def test_a_large_backlog_is_handed_over_in_one_sweep(house: House) -> None:
    await house.execute(
        f"INSERT INTO outbox (id, kind, payload) SELECT gen_random_uuid(), '{KIND}', '{{}}'"  # noqa: S608 - ours
        " FROM generate_series(1, 1100)"
    )
    assert await house.sweep() == 1100
    assert await house.queue.count("queued") == 1100


async def test_a_backlog_beyond_measure_fills_its_queue_only_so_far_and_no_other(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "MOST_WAITING", 600)
    await house.execute(
        f"INSERT INTO outbox (id, kind, payload) SELECT gen_random_uuid(), '{KIND}', '{{}}'"  # noqa: S608 - ours
        " FROM generate_series(1, 1700)"
    )
    assert await house.sweep() == 1000
    other = await house.add(OTHER_KIND)
    assert await house.sweep() == 1
    assert await house.waiting(QueueName.UPKEEP) == [str(other)]
    # As much again as is done, and nothing of it twice.
    for _ in range(500):
        assert await house.queue.dequeue() is not None
    assert await house.sweep() == 500
    assert len(set(await house.waiting())) == 1000


async def test_a_full_queue_is_not_told_of_what_was_just_committed(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    relay = QueueRelay(house.queues, ValkeyGuard(house.client))
    monkeypatch.setattr(queue, "MOST_WAITING", 2)
    entries = [OutboxEntry(id=uuid4(), kind=KIND) for _ in range(4)]
    relay.notify(entries)
    await relay.drain()
    assert await house.waiting() == [str(entry.id) for entry in entries[:2]]


async def test_what_failed_before_the_sweep_could_say_that_it_is_in_the_queue_is_due_in_time(
    house: House,
) -> None:
    entry_id = await house.add()
    worker = uuid4()
    assert await take(house.database.statements, worker, entry_id, [KIND]) is not None
    async with house.database.transactions.begin() as transaction:
        await Attempts(transaction.session, worker).failed(entry_id, "no", counts=True)
        await transaction.outbox.mark_enqueued([entry_id])
        await transaction.commit()
    await house.execute("UPDATE outbox SET run_after = now() - interval '1 s'")
    assert await house.sweep() == 1
    assert await house.waiting() == [str(entry_id)]

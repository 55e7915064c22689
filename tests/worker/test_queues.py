"""Worker processes and their queues: who takes what, and what becomes of it when one of them dies."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from uuid import UUID

import pytest
from valkey.asyncio import Valkey

from chitram.platform.outbox import OutboxEntry
from chitram.platform.queue import JobQueues, QueueName
from chitram.platform.settings import Settings
from chitram.platform.valkey import make_valkey
from tests.support.database import Database
from tests.support.obedient_worker import KIND_PREFIX
from tests.support.servers import OwnValkey, own_valkey
from tests.support.waiting import until
from tests.support.workers import Jobs, WorkerProcess, jobs_of, running_worker

LEASE_SECONDS = 1.5

StartWorker = Callable[..., Awaitable[WorkerProcess]]


@pytest.fixture
async def jobs(database: Database) -> AsyncIterator[Jobs]:
    async with jobs_of(database) as listening:
        yield listening


@pytest.fixture
def valkey() -> Iterator[OwnValkey]:
    with own_valkey() as server:
        yield server


@pytest.fixture
async def client(valkey: OwnValkey) -> AsyncIterator[Valkey]:
    """A client of that Valkey, which no test has to close."""
    async with make_valkey(Settings(valkey_url=valkey.url)) as made:
        yield made


@pytest.fixture
async def start_worker(database: Database, jobs: Jobs, valkey: OwnValkey) -> AsyncIterator[StartWorker]:
    """Start workers that run until the end of the test."""
    async with AsyncExitStack() as stack:

        async def start(**variables: str) -> WorkerProcess:
            environment = {
                "TEST_SOCKET": str(jobs.socket),
                "TEST_LEASE_SECONDS": str(LEASE_SECONDS),
                **variables,
            }
            return await stack.enter_async_context(running_worker(database.url, valkey.url, environment))

        yield start


async def flush(valkey: OwnValkey) -> None:
    async with make_valkey(Settings(valkey_url=valkey.url)) as client:
        await client.flushall()


async def test_what_a_worker_is_at_is_not_begun_by_another_before_it_is_killed(
    jobs: Jobs, start_worker: StartWorker
) -> None:
    workers = [await start_worker() for _ in range(2)]
    [entry_id] = await jobs.add(QueueName.URGENT)
    begun = await jobs.next()
    leases: set[object] = set()
    while len(leases) < 5:
        leases.add(await _lease_of(jobs, entry_id))
        await asyncio.sleep(0.05)
    assert jobs.begun.empty()
    for worker in workers:
        if worker.pid == begun.pid:
            await worker.kill()
    again = await jobs.next()
    assert again.entry_id == entry_id
    assert again.pid != begun.pid
    await again.tell("finish")
    await jobs.all_done()


async def _lease_of(jobs: Jobs, entry_id: UUID) -> object:
    async with jobs.database.reader.connection() as connection:
        return await connection.fetchval("SELECT leased_until FROM outbox WHERE id = $1", entry_id)


async def test_a_worker_that_is_stopped_finishes_what_it_is_at_and_takes_no_more(
    jobs: Jobs, start_worker: StartWorker, client: Valkey
) -> None:
    worker = await start_worker()
    await jobs.add(QueueName.URGENT)
    begun = await jobs.next()
    worker.process.send_signal(signal.SIGTERM)

    async def nobody_waits_for_work() -> bool:
        return not (await client.info("clients"))["blocked_clients"]

    await until(nobody_waits_for_work)
    queues = JobQueues(client, {KIND_PREFIX + QueueName.URGENT: QueueName.URGENT})
    [other] = await jobs.add(QueueName.URGENT)
    await queues.enqueue(OutboxEntry(id=other, kind=KIND_PREFIX + QueueName.URGENT))
    await begun.tell("finish")
    assert await worker.ended() == 0
    assert await queues[QueueName.URGENT].count("queued") == 1
    # What came after the signal is left to others.
    assert await jobs.left() == 1
    assert jobs.begun.empty()


async def test_a_worker_that_is_told_twice_hands_back_at_once_what_it_is_at(
    jobs: Jobs, start_worker: StartWorker, client: Valkey
) -> None:
    worker = await start_worker()
    ids = await jobs.add(QueueName.URGENT, 3)
    for _ in ids:
        await jobs.next()
    for _ in range(2):
        worker.process.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.1)
    assert await worker.ended() == 0
    async with jobs.database.reader.connection() as connection:
        rows = await connection.fetch("SELECT attempts, leased_until FROM outbox")
    assert {tuple(row) for row in rows} == {(0, None)}
    assert jobs.begun.empty()
    # Nobody has to find out first that it is at nothing any more.
    queues = JobQueues(client, {})
    assert await queues.taken(QueueName.URGENT) == set()
    assert await queues[QueueName.URGENT].count("queued") == 3
    await jobs.finish_all()
    await start_worker()
    await jobs.all_done()
    assert {(await jobs.next()).entry_id for _ in ids} == set(ids)


async def restart(valkey: OwnValkey) -> None:
    valkey.kill()
    await valkey.restart()


@pytest.mark.parametrize("empty", [flush, pytest.param(restart, marks=pytest.mark.long)])
async def test_a_valkey_that_forgets_everything_loses_no_work_and_doubles_none(
    jobs: Jobs, start_worker: StartWorker, valkey: OwnValkey, empty: Callable[[OwnValkey], Awaitable[None]]
) -> None:
    for _ in range(2):
        await start_worker()
    ids = await jobs.add(QueueName.THUMBNAILS, 20)
    for _ in range(4):
        await jobs.next()
    await empty(valkey)
    await jobs.finish_all()
    await jobs.all_done()
    assert Counter(begun.entry_id for begun in jobs.seen) == dict.fromkeys(ids, 1)


async def test_optimising_waits_until_no_thumbnails_are_waiting_and_upkeep_longer(
    jobs: Jobs, start_worker: StartWorker
) -> None:
    for queue in (QueueName.UPKEEP, QueueName.OPTIMISE, QueueName.THUMBNAILS):
        await jobs.add(queue, 5)
    await jobs.finish_all()
    await start_worker()
    order = [(await jobs.next()).queue for _ in range(15)]
    assert order == [
        queue for queue in (QueueName.THUMBNAILS, QueueName.OPTIMISE, QueueName.UPKEEP) for _ in range(5)
    ]


@pytest.mark.long
async def test_optimising_is_not_put_off_for_ever(jobs: Jobs, start_worker: StartWorker) -> None:
    await jobs.add(QueueName.THUMBNAILS, 30)
    await start_worker(TEST_PATIENCE_SECONDS="0.5")
    running = [await jobs.next()]
    await jobs.add(QueueName.OPTIMISE, 2)
    while running[-1].queue is QueueName.THUMBNAILS:
        running.append(await jobs.next())
    assert len(running) < 30
    await jobs.finish_all()
    await jobs.all_done()


async def test_work_that_is_taken_from_the_queue_and_never_begun_is_done(
    jobs: Jobs, start_worker: StartWorker, client: Valkey
) -> None:
    """Whoever took it died between two commands; or Valkey lost the half of it."""
    await jobs.finish_all()
    queues = JobQueues(client, {KIND_PREFIX + QueueName.URGENT: QueueName.URGENT})
    await queues.filling()
    await queues.filled()
    taken, halved = await jobs.add(QueueName.URGENT, 2)
    async with jobs.database.transactions.begin() as transaction:
        for entry in await transaction.outbox.due(queues.kinds, 2):
            await queues.enqueue(entry)
        await transaction.outbox.mark_enqueued([taken, halved])
        await transaction.commit()
    queue = queues[QueueName.URGENT]
    assert await queue.dequeue() is not None
    # It waits no more, but seems to be there still.
    async with client.pipeline(transaction=True) as pipeline:
        pipeline.lrem(queue.namespace("queued"), 0, queue.job_id(str(halved)))
        pipeline.rpush(queue.namespace("active"), queue.job_id(str(halved)))
        await pipeline.execute()
    await start_worker()
    await jobs.all_done()
    assert {(await jobs.next()).entry_id for _ in range(2)} == {taken, halved}

    async def nothing_is_taken() -> bool:
        return not await queues.taken(QueueName.URGENT)

    # Nothing is left either of what was lost by halves, once the worker has said that it is done.
    await until(nothing_is_taken)


async def test_a_valkey_that_hands_out_nothing_is_not_asked_again_and_again(
    jobs: Jobs, start_worker: StartWorker, client: Valkey
) -> None:
    """A full one refuses to move what waits, a replica to change anything."""
    worker = await start_worker()
    await jobs.finish_all()
    await client.config_set("maxmemory", 1)

    async def is_refused() -> bool:
        return b"queue hands out nothing" in worker.log.read_bytes()

    await until(is_refused)
    refused = await _refusals(client)
    await asyncio.sleep(1)
    assert await _refusals(client) - refused < 100
    await client.config_set("maxmemory", 0)
    await jobs.add(QueueName.URGENT)
    await jobs.all_done()


async def _refusals(client: Valkey) -> int:
    statistics = await client.info("commandstats")
    return int(statistics["cmdstat_blmove"]["rejected_calls"])

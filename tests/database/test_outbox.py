"""The outbox: what is due, what failed, what is given up."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import UUID, uuid4

import asyncpg
import pytest
from sqlalchemy import func, select, text, update

from chitram.kernel.errors import StorageUnavailable
from chitram.platform.attempts import LEASE, Attempts, backoff, take, under_way
from chitram.platform.background import Job, OutboxRunner
from chitram.platform.database import SqlUnitOfWork
from chitram.platform.dead_letters import DeadLetters
from chitram.platform.outbox import REQUEUE_AFTER, OutboxEntry, OutboxRow
from chitram.platform.queue import QueueName
from tests.support.database import Database, outbox_ids

KIND = "test.work"


class Work(Job):
    """Counts what it was asked to do, and fails while `error` is set."""

    kind = KIND
    queue = QueueName.UPKEEP
    seconds = 5.0
    attempts = 3

    def __init__(self) -> None:
        self.done: list[OutboxEntry] = []
        self.mourned: list[UUID] = []
        self.error: Exception | None = None
        self.last_error: Exception | None = None

    async def __call__(self, entry: OutboxEntry) -> None:
        self.done.append(entry)
        if self.error:
            raise self.error

    async def given_up(self, entry: OutboxEntry) -> None:
        self.mourned.append(entry.id)
        if self.last_error:
            raise self.last_error


class Jobs:
    """A runner of one sort of work."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.work = Work()
        self.runner = OutboxRunner(
            lambda: SqlUnitOfWork(database.sessions, database.relay), database.statements, [self.work]
        )

    async def attempt(self, entry_id: UUID) -> None:
        """Try once, at once."""
        await make_due(self.database)
        await self.runner.run({}, entry_id=str(entry_id))


async def add(database: Database, kind: str = KIND) -> UUID:
    async with database.transactions.begin() as transaction:
        entry_id = await transaction.outbox.add(kind, {"n": "1"})
        await transaction.commit()
    return entry_id


async def due(database: Database) -> list[UUID]:
    async with database.transactions.begin() as transaction:
        return [entry.id for entry in await transaction.outbox.due([KIND], 100)]


async def make_due(database: Database) -> None:
    """Let the time pass for which a failed entry waits."""
    async with database.transactions.begin() as transaction:
        await transaction.session.execute(update(OutboxRow).values(run_after=OutboxRow.created_at))
        await transaction.commit()


async def test_what_is_delayed_is_neither_due_nor_told_to_the_queue_before_its_time(
    database: Database,
) -> None:
    async with database.transactions.begin() as transaction:
        entry_id = await transaction.outbox.add(KIND, {}, delay=timedelta(minutes=1))
        await transaction.commit()
    assert database.relay.entries == []
    assert await due(database) == []
    await make_due(database)
    assert await due(database) == [entry_id]


async def test_counts_what_is_owed_by_a_name_in_its_payload(database: Database) -> None:
    async with database.transactions.begin() as transaction:
        for payload in ({"shard": "a"}, {"shard": "b"}, {"shard": "a"}, {"n": "1"}):
            await transaction.outbox.add(KIND, payload)
        await transaction.outbox.add("other.kind", {"shard": "c"})
        await transaction.commit()
    async with database.transactions.begin() as transaction:
        assert await transaction.outbox.count_by(KIND, "shard") == {"a": 2, "b": 1}


async def test_an_entry_is_due_until_it_was_handed_over_and_again_after_a_while(database: Database) -> None:
    entry_id = await add(database)
    await add(database, "other.kind")
    assert await due(database) == [entry_id]
    async with database.transactions.begin() as transaction:
        await transaction.outbox.mark_enqueued([entry_id])
        await transaction.commit()
    assert await due(database) == []
    async with database.transactions.begin() as transaction:
        await transaction.session.execute(
            update(OutboxRow).values(enqueued_at=OutboxRow.enqueued_at - REQUEUE_AFTER)
        )
        await transaction.commit()
    assert await due(database) == [entry_id]


async def test_runs_the_job_of_an_entry(database: Database) -> None:
    jobs, entry_id = Jobs(database), await add(database)
    await jobs.attempt(entry_id)
    assert [(entry.id, entry.payload) for entry in jobs.work.done] == [(entry_id, {"n": "1"})]


async def test_leaves_alone_what_is_gone_or_not_its_kind(database: Database) -> None:
    jobs, other = Jobs(database), await add(database, "other.kind")
    await jobs.attempt(other)
    await jobs.attempt(uuid4())
    assert jobs.work.done == []
    assert await outbox_ids(database.transactions) == {other}


@pytest.mark.parametrize(
    ("error", "recorded"),
    [(StorageUnavailable(), "STORAGE_UNAVAILABLE"), (ValueError("odd"), "ValueError: odd")],
)
async def test_records_a_failure_and_waits_before_the_next_attempt(
    database: Database, error: Exception, recorded: str
) -> None:
    jobs, entry_id = Jobs(database), await add(database)
    jobs.work.error = error
    await jobs.attempt(entry_id)
    assert await due(database) == []
    async with database.transactions.begin() as transaction:
        row = await transaction.session.get_one(OutboxRow, entry_id)
        assert (row.attempts, row.last_error, row.dead_at) == (1, recorded, None)
        assert row.run_after > row.created_at


async def test_gives_up_after_the_last_attempt_but_keeps_the_entry(database: Database) -> None:
    jobs, entry_id = Jobs(database), await add(database)
    jobs.work.error = ValueError("always")
    for _ in range(Work.attempts):
        await make_due(database)
        assert await due(database) == [entry_id]
        await jobs.attempt(entry_id)
    await make_due(database)
    assert await due(database) == []
    await jobs.attempt(entry_id)
    assert len(jobs.work.done) == Work.attempts
    assert jobs.work.mourned == [entry_id]
    assert await outbox_ids(database.transactions) == {entry_id}


async def test_a_failure_of_what_is_gone_is_nothing(database: Database) -> None:
    async with database.transactions.begin() as transaction:
        await Attempts(transaction.session, uuid4()).failed(uuid4(), "late", counts=True)


@pytest.mark.parametrize(
    ("attempt", "longest"), [(1, 2), (2, 4), (3, 8), (9, 512), (10, 600), (60, 600), (10**9, 600)]
)
def test_waits_twice_as_long_each_time_up_to_ten_minutes_the_half_of_it_by_chance(
    attempt: int, longest: int
) -> None:
    waits = [backoff(attempt).total_seconds() for _ in range(200)]
    assert longest / 2 <= min(waits) < 0.6 * longest
    assert 0.9 * longest < max(waits) <= longest


async def test_never_gives_up_on_an_outage(database: Database) -> None:
    jobs, entry_id = Jobs(database), await add(database)
    jobs.work.error = StorageUnavailable()
    for _ in range(Work.attempts + 2):
        await make_due(database)
        assert await due(database) == [entry_id]
        await jobs.attempt(entry_id)


async def test_what_an_outage_cost_is_not_missing_when_the_work_itself_fails(database: Database) -> None:
    jobs, entry_id = Jobs(database), await add(database)
    for error in (*[StorageUnavailable()] * Work.attempts, *[ValueError("odd")] * (Work.attempts - 1)):
        jobs.work.error = error
        await jobs.attempt(entry_id)
    assert jobs.work.mourned == []
    await jobs.attempt(entry_id)
    assert jobs.work.mourned == [entry_id]


async def test_nothing_is_given_up_that_cannot_be_said_to_be(database: Database) -> None:
    jobs, entry_id = Jobs(database), await add(database)
    jobs.work.error, jobs.work.last_error = ValueError("odd"), StorageUnavailable()
    for _ in range(Work.attempts):
        await jobs.attempt(entry_id)
    await make_due(database)
    assert await due(database) == [entry_id]
    jobs.work.last_error = None
    await jobs.attempt(entry_id)
    await make_due(database)
    assert await due(database) == []


async def test_a_job_that_takes_too_long_has_failed(database: Database) -> None:
    class Hanging(Work):
        seconds = 0.05

        async def __call__(self, entry: OutboxEntry) -> None:
            await asyncio.Event().wait()

    entry_id = await add(database)
    runner = OutboxRunner(
        lambda: SqlUnitOfWork(database.sessions, database.relay), database.statements, [Hanging()]
    )
    await runner.run({}, entry_id=str(entry_id))
    async with database.transactions.begin() as transaction:
        row = await transaction.session.get_one(OutboxRow, entry_id)
        assert (row.attempts, row.last_error) == (1, "TimeoutError: took too long")


async def give_up(jobs: Jobs, database: Database) -> UUID:
    """Make a dead letter."""
    entry_id = await add(database)
    jobs.work.error = ValueError("always")
    for _ in range(Work.attempts):
        await jobs.attempt(entry_id)
    return entry_id


async def test_what_was_given_up_is_listed_and_starts_afresh(database: Database) -> None:
    jobs = Jobs(database)
    entry_id = await give_up(jobs, database)
    async with database.transactions.begin() as transaction:
        dead = DeadLetters(transaction.session)
        [letter] = await dead.list(10)
        assert (letter.id, letter.payload, letter.attempts) == (entry_id, {"n": "1"}, Work.attempts)
        assert (letter.kind, letter.error) == (KIND, "ValueError: always")
        assert await dead.ids() == [entry_id]
        assert await dead.revive(entry_id)
        assert not await dead.revive(entry_id)
        await transaction.commit()
    assert await due(database) == [entry_id]
    jobs.work.error = None
    await jobs.attempt(entry_id)
    assert [entry.failures for entry in jobs.work.done] == [0, 1, 2, 0]


async def test_what_was_given_up_is_dropped_and_nothing_else_is(database: Database) -> None:
    given_up, alive = await give_up(Jobs(database), database), await add(database)
    async with database.transactions.begin() as transaction:
        dead = DeadLetters(transaction.session)
        assert not await dead.drop(alive)
        assert await dead.find(alive) is None
        assert await dead.drop(given_up)
        await transaction.commit()
    assert await outbox_ids(database.transactions) == {alive}


async def test_nobody_begins_what_another_is_at_until_that_one_is_not_heard_of_any_more(
    database: Database,
) -> None:
    entry_id, one, other = await add(database), uuid4(), uuid4()
    assert await take(database.statements, one, entry_id, [KIND]) is not None
    assert await due(database) == []
    assert await take(database.statements, other, entry_id, [KIND]) is None
    async with database.transactions.begin() as transaction:
        assert await under_way(transaction.session, [entry_id]) == {entry_id}
    await let_leases_run_out(database)
    assert await due(database) == [entry_id]
    async with database.transactions.begin() as transaction:
        [entry] = await transaction.outbox.due([KIND], 10)
        assert entry.is_abandoned
        # Only late, not dead: it says so before another takes it.
        await Attempts(transaction.session, one).renew([entry_id])
        assert await under_way(transaction.session, [entry_id]) == {entry_id}
        await transaction.commit()
    await let_leases_run_out(database)
    assert await take(database.statements, other, entry_id, [KIND]) is not None
    async with database.transactions.begin() as transaction:
        await Attempts(transaction.session, one).hand_back(entry_id)
        assert await under_way(transaction.session, [entry_id]) == {entry_id}
        await Attempts(transaction.session, other).hand_back(entry_id)
        assert [entry.is_abandoned for entry in await transaction.outbox.due([KIND], 10)] == [False]


async def let_leases_run_out(database: Database) -> None:
    async with database.transactions.begin() as transaction:
        late = OutboxRow.leased_until - LEASE - timedelta(seconds=1)
        await transaction.session.execute(update(OutboxRow).values(leased_until=late))
        await transaction.commit()


async def test_what_a_worker_is_at_is_renewed_and_handed_back_when_it_stops(database: Database) -> None:
    started = asyncio.Event()

    class Slow(Work):
        async def __call__(self, entry: OutboxEntry) -> None:
            started.set()
            await asyncio.Event().wait()

    entry_id = await add(database)
    runner = OutboxRunner(
        lambda: SqlUnitOfWork(database.sessions, database.relay), database.statements, [Slow()]
    )
    running = asyncio.create_task(runner.run({}, entry_id=str(entry_id)))
    await started.wait()
    await let_leases_run_out(database)
    await runner.renew()
    assert await due(database) == []
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    async with database.transactions.begin() as transaction:
        [entry] = await transaction.outbox.due([KIND], 10)
        row = await transaction.session.get_one(OutboxRow, entry_id)
        assert (entry.is_abandoned, row.attempts) == (False, 0)


async def test_what_a_lost_queue_was_given_is_due_and_what_came_after_is_not(database: Database) -> None:
    before = await add(database)
    async with database.transactions.begin() as transaction:
        await transaction.outbox.mark_enqueued([before])
        await transaction.commit()
    async with database.transactions.begin() as transaction:
        lost_at = await transaction.session.scalar(select(func.now()))
    after = await add(database)
    async with database.transactions.begin() as transaction:
        await transaction.outbox.mark_enqueued([after])
        found = await transaction.outbox.due([KIND], 10, queue_lost_at=lost_at)
        assert [entry.id for entry in found] == [before]
        assert await transaction.outbox.due([KIND], 10) == []
        await transaction.outbox.forget_enqueued([after])
        assert [entry.id for entry in await transaction.outbox.due([KIND], 10)] == [after]


async def test_whether_something_is_owed_is_asked_of_an_index(database: Database) -> None:
    """A move asks for each image, and owes one row more for each that it has moved."""
    connection = await asyncpg.connect(database.url)
    await connection.execute(
        f"""
        INSERT INTO outbox (id, kind, payload)
        SELECT gen_random_uuid(), '{KIND}', jsonb_build_object('n', n::text, 'shard', 'a')
        FROM generate_series(1, 60000) n;
        ANALYZE outbox
        """  # noqa: S608 - ours
    )
    await connection.close()
    async with database.transactions.begin() as transaction:
        for n, owed in (("60000", True), ("0", False)):
            assert await transaction.outbox.owes({"n": n, "shard": "a"}, KIND, "other") is owed
        scans = text("SELECT seq_scan FROM pg_stat_xact_user_tables WHERE relname = 'outbox'")
        assert await transaction.session.scalar(scans) == 0

"""Rounds by the clock, on a real database: each is done by one worker, and none is forgotten."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from chitram.kernel.errors import StorageUnavailable
from chitram.platform import schedule
from chitram.platform.database import SqlUnitOfWork
from chitram.platform.loops import repeat
from chitram.platform.schedule import Round, Schedule
from tests.support.database import Database

WAIT_SECONDS = 20
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "TICK_SECONDS", 0.02)


class Work:
    """Counts its turns, and does in each what it is told."""

    def __init__(self) -> None:
        self.turns = 0
        self.under_way = 0
        self.most = 0
        self.errors: list[Exception] = []
        self.held: asyncio.Event | None = None
        self.turned = asyncio.Event()

    async def __call__(self) -> None:
        self.turns += 1
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        self.turned.set()
        try:
            if self.held:
                await self.held.wait()
            if self.errors:
                raise self.errors.pop()
        finally:
            self.under_way -= 1

    async def until(self, turns: int) -> None:
        async with asyncio.timeout(WAIT_SECONDS):
            while self.turns < turns:
                self.turned.clear()
                await self.turned.wait()


@contextlib.asynccontextmanager
async def working(database: Database, *rounds: Round, workers: int = 1) -> AsyncIterator[Sequence[UUID]]:
    """Let so many workers do the rounds; gives their ids."""
    stop, ids = asyncio.Event(), [uuid4() for _ in range(workers)]
    schedules = [
        Schedule(lambda: SqlUnitOfWork(database.sessions, database.relay), rounds, worker) for worker in ids
    ]
    running = [asyncio.create_task(each.run_until(stop, grace_seconds=0.05)) for each in schedules]
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            while await next_at(database) is None:
                await asyncio.sleep(0.01)
        yield ids
    finally:
        stop.set()
        async with asyncio.timeout(WAIT_SECONDS):
            await asyncio.gather(*running)


async def execute(database: Database, statement: str) -> None:
    async with database.transactions.begin() as transaction:
        await transaction.session.execute(text(statement))
        await transaction.commit()


async def next_at(database: Database) -> datetime | None:
    """When the round is due, if any worker has made it known."""
    async with database.reader.connection() as connection:
        found: datetime | None = await connection.fetchval("SELECT next_at FROM rounds")
    return found


async def ended(database: Database) -> tuple[datetime | None, str | None]:
    """When the round was done, and why it was not, once nobody is at it any more."""
    async with asyncio.timeout(WAIT_SECONDS), database.reader.connection() as connection:
        while True:
            row = await connection.fetchrow("SELECT * FROM rounds WHERE leased_by IS NULL")
            if row is not None:
                return row["done_at"], row["last_error"]
            await asyncio.sleep(0.01)


async def test_each_round_is_done_by_one_worker_at_a_time(database: Database) -> None:
    work = Work()
    async with working(database, Round("often", work, every=timedelta(seconds=0.01)), workers=3):
        await work.until(15)
    assert work.most == 1


async def test_a_night_on_which_nobody_worked_is_made_up_for(database: Database) -> None:
    work = Work()
    nightly = Round("nightly", work, hour=3)
    async with working(database, nightly):
        pass
    assert work.turns == 0
    due = await next_at(database)
    assert due is not None
    assert (due.hour, due.minute, due > datetime.now(UTC)) == (3, 0, True)
    await execute(database, "UPDATE rounds SET next_at = next_at - interval '2 days'")
    async with working(database, nightly, workers=2):
        await work.until(1)
        done_at, error = await ended(database)
    assert (work.turns, done_at is None, error) == (1, False, None)
    assert await next_at(database) == due


async def test_a_failed_night_is_tried_again_soon(database: Database) -> None:
    work = Work()
    work.errors = [ValueError("odd")]
    nightly = Round("nightly", work, hour=3)
    async with working(database, nightly):
        pass
    await execute(database, "UPDATE rounds SET next_at = now()")
    async with working(database, nightly):
        await work.until(1)
        assert await ended(database) == (None, "ValueError: odd")
    again = await next_at(database)
    assert again is not None
    assert again < datetime.now(UTC) + timedelta(minutes=11)


async def test_a_failure_does_not_end_the_rounds(database: Database) -> None:
    work = Work()
    work.errors = [StorageUnavailable(), ValueError("odd"), OSError()]
    async with working(database, Round("often", work, every=timedelta(seconds=0.01))):
        await work.until(5)


async def test_the_round_of_a_worker_that_died_is_taken_by_another(database: Database) -> None:
    work = Work()
    once = Round("once", work, every=timedelta(days=1))
    async with working(database, once):
        await work.until(1)
        await ended(database)
    # As it stands when the worker is killed in the middle.
    await execute(
        database,
        "UPDATE rounds SET next_at = now() - interval '1 min', leased_by = gen_random_uuid(),"
        " leased_until = now() + interval '1 s'",
    )
    async with working(database, once):
        await work.until(2)
    async with database.reader.connection() as connection:
        assert await connection.fetchval("SELECT next_at > now() FROM rounds")


async def test_a_round_that_does_not_end_is_left_to_another_when_the_worker_stops(database: Database) -> None:
    work = Work()
    work.held = asyncio.Event()
    once = Round("once", work, every=timedelta(days=1))
    async with working(database, once):
        await work.until(1)
    assert work.under_way == 0
    async with working(database, once):
        await work.until(2)


async def test_a_long_round_is_renewed(database: Database) -> None:
    work = Work()
    work.held = asyncio.Event()
    stop, worker = asyncio.Event(), uuid4()
    rounds = [Round("long", work, every=timedelta(0))]
    one = Schedule(lambda: SqlUnitOfWork(database.sessions, database.relay), rounds, worker)
    running = asyncio.create_task(one.run_until(stop, grace_seconds=0.05))
    await work.until(1)
    await execute(database, "UPDATE rounds SET leased_until = now() - interval '1 s'")
    await one.renew()
    async with database.reader.connection() as connection:
        assert await connection.fetchval("SELECT leased_until > now() AND leased_by = $1 FROM rounds", worker)
    stop.set()
    await running


@pytest.mark.parametrize(
    ("hour", "failed", "expected"),
    [
        (3, False, NOON.replace(day=23, hour=3)),
        (13, False, NOON.replace(hour=13)),
        (12, False, NOON.replace(day=23)),
        (3, True, NOON + timedelta(minutes=10)),
    ],
    ids=["next night", "still tonight", "not twice", "failed"],
)
def test_a_night_follows_at_its_hour(hour: int, failed: bool, expected: datetime) -> None:  # noqa: FBT001 - a case
    assert Round("nightly", Work(), hour=hour).following(NOON, failed=failed) == expected


async def test_a_turn_that_fails_does_not_end_what_is_repeated() -> None:
    stop, turns = asyncio.Event(), 0

    async def work() -> None:
        nonlocal turns
        turns += 1
        if turns == 3:
            stop.set()
        raise OSError if turns == 1 else ValueError

    await repeat(0.001, "test", work, stop)
    assert turns == 3

"""What administrators see of the background work, and what they can do about it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from uuid import UUID, uuid4

import pytest
from dishka import AsyncContainer
from sqlalchemy import text
from valkey.asyncio import Valkey

from chitram.images.domain.work import BLOB_ID, DELETE_BLOB, MAKE_RENDITIONS, OPTIMISE
from chitram.main import admin, jobs
from chitram.main.container import make_container
from chitram.platform.queue import QueueName
from chitram.platform.settings import Settings
from chitram.platform.tally import Outcome, Tally, count_workers, read_tally
from tests.support.database import Database, outbox_ids

# Runs a command; returns its status and what it printed.
Run = Callable[..., Awaitable[tuple[int, str]]]


@pytest.fixture
def settings(database: Database, valkey_url: str) -> Settings:
    # A Valkey database of these tests' own.
    return Settings(database_url=database.url, valkey_url=f"{valkey_url.rpartition('/')[0]}/5")


@pytest.fixture
async def container(settings: Settings) -> AsyncIterator[AsyncContainer]:
    made = make_container(settings)
    await (await made.get(Valkey)).flushdb()
    yield made
    await made.close()


@pytest.fixture
def run(settings: Settings, container: AsyncContainer, capsys: pytest.CaptureFixture[str]) -> Run:
    async def command(*arguments: str) -> tuple[int, str]:
        given = admin._parser(settings).parse_args(arguments)
        status: int = await given.command(container, given)
        return status, capsys.readouterr().out

    return command


async def add(database: Database, kind: str, blob_id: UUID, values: str = "dead_at = NULL") -> UUID:
    async with database.transactions.begin() as transaction:
        entry_id = await transaction.outbox.add(kind, {BLOB_ID: str(blob_id)})
        await transaction.session.flush()
        await transaction.session.execute(
            text(f"UPDATE outbox SET {values} WHERE id = :id"),  # noqa: S608 - ours
            {"id": entry_id},
        )
        await transaction.commit()
    return entry_id


async def give_up(database: Database, kind: str) -> tuple[UUID, UUID]:
    """Make a dead letter; returns its id and its blob's."""
    blob_id = uuid4()
    values = "attempts = 5, failures = 5, last_error = 'RenderingFailed: odd', dead_at = now()"
    return await add(database, kind, blob_id, values), blob_id


async def test_dead_letters_are_listed_with_what_they_are_about_and_why(database: Database, run: Run) -> None:
    entry_id, blob_id = await give_up(database, MAKE_RENDITIONS)
    status, output = await run("jobs")
    assert status == 1
    line, count = output.splitlines()
    assert line.startswith(f"{MAKE_RENDITIONS}  {entry_id}  {BLOB_ID}={blob_id}  given up 2")
    assert line.endswith("Z after 5 attempts: RenderingFailed: odd")
    assert count == "given up: 1"


async def test_all_dead_letters_are_counted_where_not_all_are_listed(
    database: Database, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "_LISTED", 2)
    for _ in range(3):
        await give_up(database, MAKE_RENDITIONS)
    _, output = await run("jobs")
    *lines, count = output.splitlines()
    assert (len(lines), count) == (2, "given up: 3, the oldest of them above")


async def test_dead_letters_are_requeued_by_name_or_all_together(database: Database, run: Run) -> None:
    (first, _), (second, _), (third, _) = [await give_up(database, MAKE_RENDITIONS) for _ in range(3)]
    assert await run("jobs", "--requeue", str(first)) == (0, "requeued: 1\n")
    assert await run("jobs", "--requeue", str(first)) == (1, "requeued: 0\n")
    assert await run("jobs", "--requeue") == (0, "requeued: 2\n")
    async with database.transactions.begin() as transaction:
        due = await transaction.outbox.due([MAKE_RENDITIONS], 10)
    assert {(entry.id, entry.failures) for entry in due} == {(first, 0), (second, 0), (third, 0)}


async def test_dead_letters_are_dropped_by_name_or_all_together(database: Database, run: Run) -> None:
    (first, _), (second, _) = [await give_up(database, MAKE_RENDITIONS) for _ in range(2)]
    alive = await add(database, MAKE_RENDITIONS, uuid4())
    assert await run("jobs", "--drop", str(first), str(alive)) == (1, "dropped: 1\n")
    assert await outbox_ids(database.transactions) == {second, alive}
    assert await run("jobs", "--drop") == (0, "dropped: 1\n")
    assert await outbox_ids(database.transactions) == {alive}


async def test_the_state_of_every_queue_is_shown(
    database: Database, container: AsyncContainer, run: Run
) -> None:
    for _ in range(2):
        await add(database, DELETE_BLOB, uuid4(), "run_after = now() - interval '90 s'")
    await add(database, MAKE_RENDITIONS, uuid4(), "leased_until = now() + interval '10 s'")
    await add(database, MAKE_RENDITIONS, uuid4(), "leased_until = now() - interval '1 s'")
    await add(database, OPTIMISE, uuid4(), "attempts = 1, run_after = now() + interval '1 hour'")
    await give_up(database, OPTIMISE)
    await add(database, "of.tomorrow", uuid4())
    client, tally = await container.get(Valkey), Tally()
    tally.count(QueueName.THUMBNAILS, Outcome.DONE)
    await tally.tell(client, uuid4())
    status, output = await run("queue")
    assert status == 0
    header, *rows, last = [line.split() for line in output.splitlines()]
    assert header == [
        "queue",
        "waiting",
        "active",
        "later",
        "oldest",
        "done/min",
        "failed/min",
        "given",
        "up",
    ]
    assert [row[:4] + row[-1:] for row in rows] == [
        ["urgent", "2", "0", "0", "0"],
        ["thumbnails", "1", "1", "0", "0"],
        ["optimise", "0", "0", "1", "1"],
        ["upkeep", "0", "0", "0", "0"],
        ["unknown", "1", "0", "0", "0"],
    ]
    assert 90 <= int(rows[0][4]) < 120
    assert last[:2] == ["workers:", "1;"]


async def test_the_state_of_the_queues_is_shown_also_without_valkey(
    database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = Settings(database_url=database.url, valkey_url="valkey://127.0.0.1:1/0")
    container = make_container(settings)
    try:
        given = admin._parser(settings).parse_args(["queue"])
        assert await given.command(container, given) == 0
    finally:
        await container.close()
    assert "workers: Valkey does not tell" in capsys.readouterr().out


async def test_what_workers_did_is_counted_by_the_minute(container: AsyncContainer) -> None:
    client, tallies = await container.get(Valkey), [Tally(), Tally()]
    for tally in tallies:
        tally.count(QueueName.URGENT, Outcome.FAILED)
        await tally.tell(client, uuid4())
        # Once told, it is not told again.
        await tally.tell(client, uuid4())
    [key] = [key async for key in client.scan_iter("chitram:jobs:*")]
    minute = int(key.decode().rpartition(":")[2])
    await client.rename(key, f"chitram:jobs:{minute - 2}")
    counts = await read_tally(client, 5)
    assert {key: count for key, count in counts.items() if count} == {(QueueName.URGENT, Outcome.FAILED): 2}
    assert await count_workers(client) == 4

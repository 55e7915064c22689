"""`chitram admin jobs` and `chitram admin queue`: what became of the background work."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from dishka import AsyncContainer
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from valkey.asyncio import Valkey
from valkey.exceptions import ValkeyError

from chitram.main.container import JOBS
from chitram.platform.database import SqlUnitOfWork
from chitram.platform.dead_letters import DeadLetter, DeadLetters
from chitram.platform.outbox import Relay
from chitram.platform.queue import QueueName
from chitram.platform.queue_view import RATE_MINUTES, QueueView, WorkView, read_queues, read_work
from chitram.platform.settings import Settings
from chitram.platform.tally import Outcome

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 - it has no public name

Begin = Callable[[], SqlUnitOfWork]

_LISTED = 100
_COLUMNS = ("queue", "waiting", "active", "later", "oldest", "done/min", "failed/min", "given up")


def add_to(commands: Subparsers) -> None:
    """Make the commands known."""
    jobs = commands.add_parser("jobs", help="list background work that was given up")
    jobs.set_defaults(command=_jobs)
    what = jobs.add_mutually_exclusive_group()
    for flag, summary in (
        ("requeue", "give these a fresh start, or all of it when no id is named"),
        ("drop", "forget these with what they owed, or all of it when no id is named"),
    ):
        what.add_argument(f"--{flag}", nargs="*", type=UUID, metavar="ID", help=summary)
    queue = commands.add_parser("queue", help="show the state of the background work")
    queue.set_defaults(command=_queue)


async def _jobs(container: AsyncContainer, given: argparse.Namespace) -> int:
    begin = await _transactions(container)
    async with begin() as transaction:
        dead = DeadLetters(transaction.session)
        letters, everything = await dead.list(_LISTED), await dead.ids()
    if given.requeue is None and given.drop is None:
        more = ", the oldest of them above" if len(everything) > len(letters) else ""
        sys.stdout.write("".join(map(_describe, letters)) + f"given up: {len(everything)}{more}\n")
        return 1 if letters else 0
    named: Sequence[UUID] = given.requeue if given.drop is None else given.drop
    ids = named or everything
    change = _drop if given.requeue is None else _revive
    changed = [await change(container, begin, entry_id) for entry_id in ids].count(True)
    sys.stdout.write(f"{'dropped' if given.requeue is None else 'requeued'}: {changed}\n")
    return 1 if changed < len(named) else 0


async def _drop(_: AsyncContainer, begin: Begin, entry_id: UUID) -> bool:
    async with begin() as transaction:
        dropped = await DeadLetters(transaction.session).drop(entry_id)
        await transaction.commit()
    return dropped


async def _revive(container: AsyncContainer, begin: Begin, entry_id: UUID) -> bool:
    async with begin() as transaction:
        entry = await DeadLetters(transaction.session).find(entry_id)
    if entry is None:
        return False
    for job in JOBS:
        if job.kind == entry.kind:
            await (await container.get(job)).revived(entry)
    async with begin() as transaction:
        revived = await DeadLetters(transaction.session).revive(entry_id)
        await transaction.commit()
    return revived


def _describe(letter: DeadLetter) -> str:
    subject = " ".join(f"{name}={value}" for name, value in letter.payload.items())
    return (
        f"{letter.kind}  {letter.id}  {subject}  given up {letter.since:%Y-%m-%dT%H:%M:%SZ} after "
        f"{letter.attempts} attempts: {letter.error}\n"
    )


async def _queue(container: AsyncContainer, _: argparse.Namespace) -> int:
    begin = await _transactions(container)
    async with begin() as transaction:
        queues = await read_queues(transaction.session, {job.kind: job.queue for job in JOBS})
    work = None
    if (await container.get(Settings)).valkey_url:
        try:
            work = await read_work(await container.get(Valkey))
        except (ValkeyError, OSError):
            # It is a part of the answer.
            work = None
    rows = [_COLUMNS, *(_row(queue, work) for queue in queues)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        sys.stdout.write("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) + "\n")
    told = "Valkey does not tell" if work is None else str(work.workers)
    sys.stdout.write(f"workers: {told}; rates are of the last {RATE_MINUTES} full minutes\n")
    return 0


def _row(queue: QueueView, work: WorkView | None) -> tuple[str, ...]:
    def rate(outcome: Outcome) -> str:
        if work is None or queue.name is None:
            return "-"
        return f"{work.per_minute[QueueName(queue.name), outcome]:.1f}"

    oldest = "-" if queue.oldest_seconds is None else f"{queue.oldest_seconds:.0f} s"
    numbers = (str(number) for number in (queue.waiting, queue.active, queue.later))
    return (
        queue.name or "unknown",
        *numbers,
        oldest,
        rate(Outcome.DONE),
        rate(Outcome.FAILED),
        str(queue.dead),
    )


async def _transactions(container: AsyncContainer) -> Begin:
    sessions = await container.get(async_sessionmaker[AsyncSession])
    relay = await container.get(Relay)
    return lambda: SqlUnitOfWork(sessions, relay)

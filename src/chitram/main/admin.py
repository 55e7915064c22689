"""Commands for administrators."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

from dishka import AsyncContainer
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from chitram.images.use_cases.reconcile_store import ReconcileCommand, ReconcileReport, ReconcileStore
from chitram.kernel.errors import ChitramError
from chitram.main import cache_statistics
from chitram.main.container import make_container
from chitram.main.stores import require_stores
from chitram.platform.database import SqlUnitOfWork
from chitram.platform.embedded.stack import attached
from chitram.platform.outbox import Relay
from chitram.platform.settings import Settings

_LISTED = 100

# Does one command and returns the exit status.
Command = Callable[[AsyncContainer, argparse.Namespace], Awaitable[int]]


def run(settings: Settings, arguments: Sequence[str]) -> int:
    """Run one command; exit status 1 when it found something wrong or could not run."""
    given = _parser(settings).parse_args(arguments)
    command: Command = given.command
    try:
        with _with_database(settings) as complete:
            return asyncio.run(_run(complete, command, given))
    except ChitramError as error:
        print(f"chitram: {error.message}", file=sys.stderr)  # noqa: T201 - a command talks to its terminal
        return 1


@contextmanager
def _with_database(settings: Settings) -> Iterator[Settings]:
    """Settings with a database; what needs Valkey too refuses to run without its URL."""
    if settings.database_url:
        yield settings
        return
    with attached(settings) as complete:
        yield complete


async def _run(settings: Settings, command: Command, given: argparse.Namespace) -> int:
    container = make_container(settings)
    try:
        return await command(container, given)
    finally:
        await container.close()


def _parser(settings: Settings) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="chitram admin")
    commands = parser.add_subparsers(required=True, metavar="command")
    reconcile = commands.add_parser(
        "reconcile", help="compare the object stores with the database, both ways"
    )
    reconcile.set_defaults(command=_reconcile)
    reconcile.add_argument(
        "--apply", action="store_true", help="remove orphans; without it they are only counted"
    )
    reconcile.add_argument(
        "--force", action="store_true", help="remove them even when the database knows no image at all"
    )
    reconcile.add_argument(
        "--grace-seconds",
        type=_not_negative,
        default=settings.reconcile_grace_seconds,
        help="leave younger objects alone (default %(default)s); less than the setting "
        "CHITRAM_RECONCILE_GRACE_SECONDS only while nothing is being uploaded",
    )
    jobs = commands.add_parser("jobs", help="list background work that was given up")
    jobs.set_defaults(command=_jobs)
    jobs.add_argument("--requeue", action="store_true", help="give all of it a fresh start")
    cache_statistics.add_to(commands)
    return parser


def _not_negative(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError(text)
    return number


async def _reconcile(container: AsyncContainer, given: argparse.Namespace) -> int:
    await require_stores(await container.get(Settings))
    reconcile = await container.get(ReconcileStore)
    report = await reconcile(
        ReconcileCommand(timedelta(seconds=given.grace_seconds), given.apply, given.force)
    )
    sys.stdout.write(_describe(report, applied=given.apply))
    return 1 if report.missing or report.orphans > report.removed else 0


def _describe(report: ReconcileReport, *, applied: bool) -> str:
    lines = [
        f"objects seen:              {report.objects}",
        f"objects without a row:     {report.orphans}",
        f"  removed:                 {report.removed}",
        f"unfinished writes removed: {report.unfinished}",
        f"rows without their object: {len(report.missing)}",
        *(f"  blob {blob_id}" for blob_id in report.missing),
    ]
    if report.orphans and not applied:
        lines.append("Nothing was changed. Run again with --apply to remove what has no row.")
    return "\n".join(lines) + "\n"


async def _jobs(container: AsyncContainer, given: argparse.Namespace) -> int:
    sessions = await container.get(async_sessionmaker[AsyncSession])
    async with SqlUnitOfWork(sessions, await container.get(Relay)) as transaction:
        dead = await transaction.outbox.dead(_LISTED)
        requeued = await transaction.outbox.requeue_dead() if given.requeue else 0
        await transaction.commit()
    for entry in dead:
        sys.stdout.write(
            f"{entry.id}  {entry.kind}  given up {entry.dead_at:%Y-%m-%dT%H:%M:%SZ} after "
            f"{entry.attempts} attempts: {entry.last_error}\n"
        )
    sys.stdout.write(f"requeued: {requeued}\n" if given.requeue else f"given up: {len(dead)}\n")
    return 1 if dead and not given.requeue else 0

"""Commands for administrators."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

from dishka import AsyncContainer

from chitram.images.ports import BlobCatalogue
from chitram.images.use_cases.copies import CopyRules
from chitram.images.use_cases.move_blobs import MoveBlobs, MoveCommand, MoveReport
from chitram.images.use_cases.reconcile_store import ReconcileCommand, ReconcileReport, ReconcileStore
from chitram.kernel.errors import ChitramError
from chitram.main import accounts, audit, cache_statistics, integrity, jobs, trace
from chitram.main.container import make_container
from chitram.main.progress import MoveProgress
from chitram.main.stores import require_stores
from chitram.platform.embedded.stack import attached
from chitram.platform.settings import Settings
from chitram.platform.spool import make_spool

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
    move = commands.add_parser(
        "move-storage", help="move everything from one store of CHITRAM_STORAGE_URLS to another"
    )
    move.set_defaults(command=_move_storage)
    move.add_argument("--from", dest="source", required=True, metavar="NAME")
    move.add_argument("--to", dest="target", required=True, metavar="NAME")
    accounts.add_to(commands)
    audit.add_to(commands)
    jobs.add_to(commands)
    trace.add_to(commands)
    integrity.add_to(commands)
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
    left = report.orphans > report.removed or (report.lacking and not given.apply)
    return 1 if report.missing or left else 0


def _describe(report: ReconcileReport, *, applied: bool) -> str:
    lines = [
        f"objects seen:              {report.objects}",
        f"objects without a row:     {report.orphans}",
        f"  removed:                 {report.removed}",
        f"copies left by moves:      {report.strays}",
        f"unfinished writes removed: {report.unfinished}",
        f"rows without their object: {len(report.missing)}",
        *(f"  blob {blob_id}" for blob_id in report.missing),
        f"without some renditions:   {len(report.lacking)}",
        *(f"  blob {blob_id}" for blob_id in report.lacking),
    ]
    if (report.orphans or report.strays) and not applied:
        lines.append("Nothing was changed. Run again with --apply to remove what has no row.")
    elif report.strays:
        lines.append("The worker removes the copies as soon as nothing can refer to them any more.")
    return "\n".join(lines) + "\n"


async def _move_storage(container: AsyncContainer, given: argparse.Namespace) -> int:
    settings = await container.get(Settings)
    await require_stores(settings)
    make_spool(settings)
    move = await container.get(MoveBlobs)
    catalogue = await container.get(BlobCatalogue)
    with MoveProgress(await catalogue.count_held_by(given.source)) as progress:
        report = await move(MoveCommand(given.source, given.target), progress)
    minutes = -(-(await container.get(CopyRules)).drop_after // timedelta(minutes=1))
    sys.stdout.write(_describe_move(report, given.source, given.target, minutes))
    return 1 if report.left() else 0


def _describe_move(report: MoveReport, source: str, target: str, minutes: int) -> str:
    lines = [f"moved from {source} to {target}: {report.moved}"]
    for what, blob_ids in (
        (f"without an object in {source}", report.missing),
        (f"with a damaged object in {source}", report.corrupt),
        (f"still with an old copy in {target}; run again in {minutes} minutes", report.waiting),
    ):
        if blob_ids:
            lines += [f"not moved, {what}: {len(blob_ids)}", *(f"  blob {blob_id}" for blob_id in blob_ids)]
    if report.moved:
        lines.append(
            f"The worker removes the old copies {minutes} minutes after each was moved. Then the entry "
            f"{source} may be taken out of CHITRAM_STORAGE_URLS, unless something was not moved."
        )
    return "\n".join(lines) + "\n"

"""Commands for administrators."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from datetime import timedelta

from chitram.images.use_cases.reconcile_store import ReconcileCommand, ReconcileReport, ReconcileStore
from chitram.kernel.errors import ChitramError
from chitram.main.container import make_container
from chitram.platform.embedded.stack import attached
from chitram.platform.settings import Settings


def run(settings: Settings, arguments: Sequence[str]) -> int:
    """Run one command; exit status 1 when it found something wrong or could not run."""
    given = _parser(settings).parse_args(arguments)
    try:
        with attached(settings) as complete:
            report = asyncio.run(_reconcile(complete, given))
    except ChitramError as error:
        print(f"chitram: {error.message}", file=sys.stderr)  # noqa: T201 - a command talks to its terminal
        return 1
    sys.stdout.write(_describe(report, applied=given.apply))
    return 1 if report.missing or report.orphans > report.removed else 0


def _parser(settings: Settings) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="chitram admin")
    commands = parser.add_subparsers(required=True, metavar="command")
    reconcile = commands.add_parser(
        "reconcile", help="compare the object stores with the database, both ways"
    )
    reconcile.add_argument(
        "--apply", action="store_true", help="remove orphans; without it they are only counted"
    )
    reconcile.add_argument(
        "--grace-seconds",
        type=int,
        default=settings.reconcile_grace_seconds,
        help="leave younger objects alone (default %(default)s); less than the setting "
        "CHITRAM_RECONCILE_GRACE_SECONDS only while nothing is being uploaded",
    )
    return parser


async def _reconcile(settings: Settings, given: argparse.Namespace) -> ReconcileReport:
    container = make_container(settings)
    try:
        reconcile = await container.get(ReconcileStore)
        return await reconcile(ReconcileCommand(timedelta(seconds=given.grace_seconds), given.apply))
    finally:
        await container.close()


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

"""`chitram admin audit`: what administrators did."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from dishka import AsyncContainer

from chitram.accounts.queries import AuditQueries

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 - it has no public name

_LISTED = 100


def add_to(commands: Subparsers) -> None:
    """Make the command known."""
    audit = commands.add_parser("audit", help="print what administrators did, newest first")
    audit.set_defaults(command=_print)
    audit.add_argument("--limit", type=_positive, default=_LISTED, help="lines (default %(default)s)")
    audit.add_argument("--subject", help="to this alone, such as image:ID or user:ID")


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise ValueError(text)
    return number


async def _print(container: AsyncContainer, given: argparse.Namespace) -> int:
    queries = await container.get(AuditQueries)
    for entry in await queries.newest(given.limit, given.subject):
        actor = entry.actor_id or "command line"
        # JSON escapes what a terminal would take for orders.
        details = json.dumps(entry.details) if entry.details else ""
        line = f"{entry.at:%Y-%m-%dT%H:%M:%SZ}  {actor}  {entry.action}  {entry.subject}  {details}"
        sys.stdout.write(line.rstrip() + "\n")
    return 0

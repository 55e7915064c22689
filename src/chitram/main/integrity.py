"""`chitram admin verify`: compare stored bytes with what was stored, and list what is damaged."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from dishka import AsyncContainer

from chitram.images.queries import Traces
from chitram.images.use_cases.scan_integrity import ScanIntegrity
from chitram.main.stores import require_stores
from chitram.platform.settings import Settings

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 - it has no public name

_LISTED = 1000


def add_to(commands: Subparsers) -> None:
    """Make the command known."""
    verify = commands.add_parser(
        "verify", help="read a night's share of the store, longest not read first, and list what is damaged"
    )
    verify.set_defaults(command=_verify)
    verify.add_argument("--damaged", action="store_true", help="only list what is known to be damaged")


async def _verify(container: AsyncContainer, given: argparse.Namespace) -> int:
    await require_stores(await container.get(Settings))
    if not given.damaged:
        await (await container.get(ScanIntegrity))()
    damaged = await (await container.get(Traces)).damaged(_LISTED)
    for blob in damaged:
        sys.stdout.write(
            f"blob {blob.id} in {blob.shard}, since {blob.damaged_at:%Y-%m-%dT%H:%M:%SZ}, "
            f"shown by images: {blob.images}\n"
        )
    sys.stdout.write(f"damaged: {len(damaged)}\n")
    return 1 if damaged else 0

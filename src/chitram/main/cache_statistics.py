"""`chitram admin cache`: what the metadata cache has done, over all processes."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

import msgspec
from dishka import AsyncContainer
from valkey.asyncio import Valkey
from valkey.exceptions import ValkeyError

from chitram.delivery.adapters.metadata_cache.statistics import Counts, read_sums, reset_sums
from chitram.kernel.errors import ChitramError
from chitram.platform.settings import Settings

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 - it has no public name


def add_to(commands: Subparsers) -> None:
    """Make the command known."""
    cache = commands.add_parser("cache", help="show what the metadata cache has done, over all processes")
    cache.set_defaults(command=_show)
    cache.add_argument("--reset", action="store_true", help="start counting from nought after showing")


async def _show(container: AsyncContainer, given: argparse.Namespace) -> int:
    if not (await container.get(Settings)).valkey_url:
        raise ChitramError("CHITRAM_VALKEY_URL is empty. Set it as for the API, or leave both URLs empty.")
    client = await container.get(Valkey)
    try:
        counts = await read_sums(client)
        if given.reset:
            await reset_sums(client)
    except (ValkeyError, OSError) as error:
        raise ChitramError(f"Valkey does not answer: {error}") from error
    sys.stdout.write(_describe(counts))
    return 0


def _describe(counts: Counts) -> str:
    ratio = "-" if counts.hit_ratio is None else f"{counts.hit_ratio:.2%}"
    numbers = msgspec.structs.asdict(counts)
    lines = [f"{name.replace('_', ' ') + ':':<18}{number:>12}" for name, number in numbers.items()]
    return "\n".join([*lines, f"{'hit ratio:':<18}{ratio:>12}"]) + "\n"

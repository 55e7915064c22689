"""What processes use: processor time and memory, of whole trees of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass

import psutil

from tests.support.api import pss

_SAMPLE_SECONDS = 0.5
_MIB = 1 << 20


@dataclass
class Usage:
    """What was used while it was watched.

    Attributes:
        cpu_seconds: user and system time; known at the end.
        peak_mib: greatest sum of PSS in MiB, looked at twice a second.
    """

    cpu_seconds: float = 0.0
    peak_mib: float = 0.0


@contextlib.asynccontextmanager
async def watching(roots: Iterable[int]) -> AsyncIterator[Usage]:
    """Watch the processes with these ids and all below them for as long as the block lasts."""
    watched = tuple(roots)
    usage = Usage()
    before = cpu_seconds(watched)
    sampler = asyncio.create_task(_sample(watched, usage))
    try:
        yield usage
    finally:
        sampler.cancel()
        usage.cpu_seconds = cpu_seconds(watched) - before
        usage.peak_mib = max(usage.peak_mib, pss_mib(watched))


def cpu_seconds(roots: Iterable[int]) -> float:
    """Processor time of these processes and all below them, those that have ended there included."""
    total = 0.0
    for process in _trees(roots):
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            # What a child used is in here once it has been waited for, and not before.
            total += times.user + times.system + times.children_user + times.children_system
    return total


def pss_mib(roots: Iterable[int]) -> float:
    """Sum of the proportional set sizes of these processes and all below them in MiB."""
    total = 0
    for process in _trees(roots):
        with contextlib.suppress(psutil.Error):
            total += pss(process)
    return total / _MIB


async def _sample(roots: Iterable[int], usage: Usage) -> None:
    while True:
        usage.peak_mib = max(usage.peak_mib, pss_mib(roots))
        await asyncio.sleep(_SAMPLE_SECONDS)


def _trees(roots: Iterable[int]) -> list[psutil.Process]:
    found: dict[int, psutil.Process] = {}
    for pid in roots:
        with contextlib.suppress(psutil.Error):
            root = psutil.Process(pid)
            found |= {each.pid: each for each in (root, *root.children(recursive=True))}
    return list(found.values())

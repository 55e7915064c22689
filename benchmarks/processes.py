"""What processes use: processor time and memory, of whole trees of them, as the kernel counts them."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

_EVERY_SECONDS = 0.5
_TICKS = os.sysconf("SC_CLK_TCK")
# Fields of /proc/<pid>/stat behind the name: own time, and that of children who have been waited for.
_TIMES = slice(11, 15)
_KIB_PER_MIB = 1024


@dataclass
class Usage:
    """What was used while it was watched.

    Attributes:
        cpu_seconds: user and system time; known at the end.
        peak_mib: greatest sum of PSS in MiB that was seen.
        peaks_mib: the same for each group of processes by itself.
    """

    cpu_seconds: float = 0.0
    peak_mib: float = 0.0
    peaks_mib: dict[str, float] = field(default_factory=dict)

    def look(self, pids: Iterable[int], group_of: Callable[[int], str]) -> None:
        """Take note of what these processes have now."""
        now: dict[str, float] = {}
        for pid in pids:
            group = group_of(pid)
            now[group] = now.get(group, 0.0) + _pss_mib(pid)
        self.peak_mib = max(self.peak_mib, sum(now.values()))
        for group, mib in now.items():
            self.peaks_mib[group] = max(self.peaks_mib.get(group, 0.0), mib)


@contextlib.asynccontextmanager
async def watching(
    roots: Iterable[int], every: float = _EVERY_SECONDS, group_of: Callable[[int], str] = lambda _: "all"
) -> AsyncIterator[Usage]:
    """Watch the processes with these ids and all below them for as long as the block lasts.

    Args:
        roots: process ids.
        every: seconds between two looks at the memory; one takes 0.2 ms for each process.
        group_of: names what a process is counted with in `peaks_mib`.
    """
    watched = tuple(roots)
    usage = Usage()
    before = cpu_seconds(watched)

    async def sample() -> None:
        while True:
            usage.look(tree(watched), group_of)
            await asyncio.sleep(every)

    sampler = asyncio.create_task(sample())
    try:
        yield usage
    finally:
        sampler.cancel()
        usage.cpu_seconds = cpu_seconds(watched) - before
        usage.look(tree(watched), group_of)


def tree(roots: Iterable[int]) -> set[int]:
    """Ids of these processes and of all below them."""
    found: set[int] = set()
    waiting = list(roots)
    while waiting:
        pid = waiting.pop()
        found.add(pid)
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{pid}/task").iterdir():
                with contextlib.suppress(OSError):
                    waiting += map(int, (task / "children").read_bytes().split())
    return found


def cpu_seconds(roots: Iterable[int]) -> float:
    """Processor time of these processes and all below them, those that have ended there included."""
    ticks = 0
    for pid in tree(roots):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
            # What a child used is in here once it has been waited for, and not before.
            ticks += sum(map(int, fields[_TIMES]))
    return ticks / _TICKS


def pss_mib(roots: Iterable[int]) -> float:
    """Sum of the proportional set sizes of these processes and all below them in MiB."""
    return sum(map(_pss_mib, tree(roots)))


def command(pid: int) -> str:
    """The command line of a process; empty when it is gone."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


def _pss_mib(pid: int) -> float:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_bytes().splitlines():
            if line.startswith(b"Pss:"):
                return int(line.split()[1]) / _KIB_PER_MIB
    return 0.0

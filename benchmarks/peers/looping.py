"""Loops of library calls: no HTTP, no database, no queue, each in a process of its own.

A loop is a program that calls `serve` with one step of its work. `Loops` runs several of them at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import msgspec

from benchmarks.model import Sample
from benchmarks.processes import watching

ROOT = Path(__file__).parents[2]


class Done(msgspec.Struct, frozen=True):
    """What a loop did: steps, and the seconds and processor time they took."""

    steps: int
    seconds: float
    cpu_seconds: float


def serve(step: Callable[[], object], clear: Callable[[], object] | None = None) -> None:
    """Say that all is ready, then for each line of standard input repeat `step` for so many seconds.

    `clear` removes what was made meanwhile; nothing waits for it but the next line.
    """
    _say("ready")
    for line in sys.stdin:
        deadline = time.monotonic() + float(line)
        began, cpu, steps = time.monotonic(), time.process_time(), 0
        while time.monotonic() < deadline:
            step()
            steps += 1
        done = Done(steps, time.monotonic() - began, time.process_time() - cpu)
        if clear:
            clear()
        _say(msgspec.json.encode(done).decode())


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


class Loops:
    """Processes that wait to be told how long to work."""

    def __init__(self, processes: Sequence[asyncio.subprocess.Process]) -> None:
        self._all = processes
        self._processes = processes

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self._processes]

    async def keep_fastest(self, counts: Sequence[int], seconds: float) -> None:
        """Let as many work from now on as did most together, tried for so long each, up and down again."""
        rates = dict.fromkeys(counts, 0.0)
        for count in (*counts, *counts[::-1]):
            self._processes = self._all[:count]
            rates[count] += (await self.run(seconds)).rate
        self._processes = self._all[: max(rates, key=rates.__getitem__)]

    async def run(self, seconds: float) -> Sample:
        """Have those that work do so at once for so long; what they did together."""
        async with watching(self.pids) as used:
            for process in self._processes:
                _stdin(process).write(f"{seconds}\n".encode())
            done = [msgspec.json.decode(await _line(process), type=Done) for process in self._processes]
        steps = sum(each.steps for each in done)
        return Sample(
            rate=sum(each.steps / each.seconds for each in done),
            cpu_ms=sum(each.cpu_seconds for each in done) * 1000 / steps,
            peak_mib=used.peak_mib,
        )


def _stdin(process: asyncio.subprocess.Process) -> asyncio.StreamWriter:
    assert process.stdin is not None  # noqa: S101 - asked for
    return process.stdin


async def _line(process: asyncio.subprocess.Process) -> bytes:
    assert process.stdout is not None  # noqa: S101 - asked for
    line = await process.stdout.readline()
    if not line:
        raise RuntimeError(f"a loop ended with status {await process.wait()}")
    return line


@contextlib.asynccontextmanager
async def loops(module: str, count: int, *arguments: object) -> AsyncIterator[Loops]:
    """Run so many processes of a loop, ready to begin; they end with the block, or with this process."""
    async with contextlib.AsyncExitStack() as stack:
        processes = []
        for _ in range(count):
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", module, *map(str, arguments)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                cwd=ROOT,
                env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            )
            stack.push_async_callback(_end, process)
            processes.append(process)
        for process in processes:
            await _line(process)
        yield Loops(processes)


async def _end(process: asyncio.subprocess.Process) -> None:
    """Close its standard input, with which it ends."""
    _stdin(process).close()
    try:
        async with asyncio.timeout(10):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()

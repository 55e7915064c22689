"""How soon `just up` is ready on data that is there already."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import statistics
import sys
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import psutil

from benchmarks.model import Limit, Line, Measured
from benchmarks.processes import tree
from chitram.platform.embedded.process import die_with_parent
from tests.support.up import READY, READY_SECONDS, Site, new_site

_STARTS = 3
_STOP_SECONDS = 60
_ROOT = Path(__file__).parents[2]
_JUST = Path(sys.executable).with_name("just")


@contextlib.asynccontextmanager
async def _up(site: Site) -> AsyncIterator[tuple[asyncio.subprocess.Process, float]]:
    """Run `just up`; gives the seconds until it says that it is ready."""
    began = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        str(_JUST),
        "up",
        cwd=_ROOT,
        env=site.environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        preexec_fn=partial(die_with_parent, os.getpid()),
    )
    try:
        yield process, await _seconds_until_ready(process, began)
    finally:
        family = [psutil.Process(pid) for pid in tree([process.pid]) if psutil.pid_exists(pid)]
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()
        # `just` goes at once, what it has started goes by itself.
        _, left = await asyncio.to_thread(psutil.wait_procs, family, _STOP_SECONDS)
        for each in left:
            each.kill()


async def _seconds_until_ready(process: asyncio.subprocess.Process, began: float) -> float:
    assert process.stdout is not None  # noqa: S101 - asked for
    told = b""
    async with asyncio.timeout(READY_SECONDS):
        while line := await process.stdout.readline():
            told += line
            if READY.search(line):
                return time.monotonic() - began
    raise RuntimeError(told.decode())


async def _start(site: Site, *, kill: bool = False) -> float:
    """Start and stop, or kill, everything; the seconds until it was ready."""
    async with _up(site) as (process, seconds):
        if kill:
            for pid in tree([process.pid]):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
    return seconds


async def _measure() -> Measured:
    """Start on a new data directory, again after each stop, and once after a kill."""
    with new_site() as site:
        first = await _start(site)
        after_stop = [await _start(site, kill=number == _STARTS) for number in range(1, _STARTS + 1)]
        after_kill = await _start(site)
    return Measured(
        value=statistics.median(after_stop),
        others={
            "slowest, s": max(after_stop),
            "after kill -9, s": after_kill,
            "with a new database, s": first,
        },
    )


LINES: list[Line] = [
    Limit(
        key="startup",
        title="Second start of `just up`",
        unit="s",
        measure=_measure,
        most=4.0,
        quick=False,
    )
]

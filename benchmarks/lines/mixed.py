"""A thousand connections at once: 600 read metadata, 200 thumbnails, 100 files, 100 upload 200 KB."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncpg
import msgspec

from benchmarks.load.uploads import Seen, upload
from benchmarks.load.wrk import Seen as Read
from benchmarks.load.wrk import wrk
from benchmarks.model import Limit, Line, Measured
from benchmarks.photos import of_bytes
from benchmarks.stack import Stack, running_stack

_READERS = {"metadata": 600, "thumbnail": 200, "file": 100}
_PATHS = {
    "metadata": "/api/v1/images/{id}",
    "thumbnail": "/api/v1/images/{id}/thumbnail",
    "file": "/api/v1/images/{id}/file",
}
_UPLOADERS = 100
_SECONDS = 60.0
_ALONE_SECONDS = 20.0
_IMAGES = 100
_SIZE = 200_000
_READY_SECONDS = 120.0
_LOOK_SECONDS = 0.1


class _Run(msgspec.Struct, frozen=True):
    """Uploads alone, then uploads and reads at once."""

    alone: Seen
    uploads: Seen
    reads: dict[str, Read]


async def _run() -> _Run:
    """Do it on a stack with its worker, as `just up` runs it."""
    async with running_stack(workers=1) as stack:
        file = stack.servers.data_dir / "upload.jpg"
        file.write_bytes(of_bytes(_SIZE))
        paths = await _paths(stack, file)
        alone = await upload(stack.api.host, _UPLOADERS, file, seconds=_ALONE_SECONDS)
        async with asyncio.TaskGroup() as group:
            uploads = group.create_task(upload(stack.api.host, _UPLOADERS, file, seconds=_SECONDS))
            reads = {
                kind: group.create_task(
                    wrk(stack.url, _SECONDS, connections=count, threads=1, paths=paths[kind])
                )
                for kind, count in _READERS.items()
            }
    return _Run(alone, uploads.result(), {kind: read.result() for kind, read in reads.items()})


async def _paths(stack: Stack, file: Path) -> dict[str, Path]:
    """Upload what is going to be read, wait for its thumbnails, and write down where all of it is."""
    await upload(stack.api.host, 8, file, count=_IMAGES)
    database = await asyncpg.connect(stack.servers.database_url)
    try:
        async with asyncio.timeout(_READY_SECONDS):
            while await database.fetchval("SELECT count(*) FROM blobs WHERE processing = 'pending'"):
                await asyncio.sleep(_LOOK_SECONDS)
        ids = [row["id"] for row in await database.fetch("SELECT id FROM images")]
    finally:
        await database.close()
    files = {kind: stack.servers.data_dir / f"{kind}.txt" for kind in _PATHS}
    for kind, path in _PATHS.items():
        files[kind].write_text("".join(f"{path.format(id=each)}\n" for each in ids))
    return files


class _Shared:
    """One run for several lines: each asks for its next, and the first to ask waits for it."""

    def __init__(self) -> None:
        self._runs: list[_Run] = []

    def line(self, told: Callable[[_Run], Measured]) -> Callable[[], Awaitable[Measured]]:
        """What measures a line that takes its value from the run."""
        taken = 0

        async def measure() -> Measured:
            nonlocal taken
            taken += 1
            if taken > len(self._runs):
                self._runs.append(await _run())
            return told(self._runs[taken - 1])

        return measure


def _errors(run: _Run) -> Measured:
    failed = {f"uploads, status {status}": count for status, count in run.uploads.failed.items()}
    for kind, seen in run.reads.items():
        failed |= {f"{kind}, broken": seen.broken, f"{kind}, refused": seen.refused}
    return Measured(
        value=sum(failed.values()),
        others={
            **{f"uploads, {code}": count for code, count in run.uploads.refused.items()},
            **{name: count for name, count in failed.items() if count},
        },
    )


def _reads(run: _Run) -> Measured:
    """The slowest kind counts."""
    return Measured(
        value=max(seen.p95 for seen in run.reads.values()) / 1000,
        others={
            **{f"{kind}, p95 in ms": seen.p95 / 1000 for kind, seen in run.reads.items()},
            **{f"{kind}/s": seen.requests / seen.microseconds * 1e6 for kind, seen in run.reads.items()},
        },
    )


def _uploads(run: _Run) -> Measured:
    alone, beside = run.alone.sample(), run.uploads.sample()
    return Measured(
        value=beside.rate / alone.rate,
        others={
            "alone/s": alone.rate,
            "beside reads/s": beside.rate,
            "alone, p95 in ms": alone.p95_ms or 0.0,
            "beside reads, p95 in ms": beside.p95_ms or 0.0,
        },
    )


_SHARED = _Shared()

LINES: list[Line] = [
    Limit(
        key="mixed-errors",
        title="1,000 connections: errors",
        unit="",
        measure=_SHARED.line(_errors),
        most=0,
        quick=False,
    ),
    Limit(
        key="mixed-reads",
        title="1,000 connections: p95 of reads",
        unit="ms",
        measure=_SHARED.line(_reads),
        most=600,
        quick=False,
    ),
    Limit(
        key="mixed-uploads",
        title="1,000 connections: uploads, to alone",
        unit="",
        measure=_SHARED.line(_uploads),
        least=0.35,
        quick=False,
    ),
]

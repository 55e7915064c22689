"""Images that wait for their thumbnails, and how fast workers make them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg

from benchmarks.load.uploads import upload
from benchmarks.model import Sample
from benchmarks.processes import watching
from benchmarks.stack import Stack

_CLIENTS = 8
# Before it counts: every renderer has begun, and one of its images is done.
_FIRST = 6
_LOOK_SECONDS = 0.02
# Looking takes a millisecond of a processor, which is then not there for what is measured.
_LOOK_MEANWHILE_SECONDS = 0.25
_START_SECONDS = 30.0


class Backlog:
    """The work of a stack without a worker, whose API takes in what is to be worked on."""

    def __init__(self, stack: Stack, file: Path, database: asyncpg.Connection) -> None:
        self._stack = stack
        self._file = file
        self._database = database

    async def processed(self, seconds: float, *, most: float) -> Sample:
        """Let work pile up, run one worker on it for so long, and say how many images a second it finished.

        An image is finished when the transaction that records its three thumbnails, which are durably
        stored by then, has committed. The time begins when the first few are, so that it is not that of
        starting. Optimised renditions, which have a queue of their own, wait until no thumbnail is owed.

        Args:
            seconds: of the time that counts.
            most: images a second that there is enough work for.
        """
        waiting = int(most * seconds) + _FIRST - await self._count("pending")
        if waiting > 0:
            seen = await upload(self._stack.api.host, _CLIENTS, self._file, count=waiting)
            if len(seen.times) < waiting:
                raise RuntimeError(f"only {len(seen.times)} of {waiting} uploads were accepted")
        async with self._stack.worker():
            first = await self._count("ready") + _FIRST
            async with asyncio.timeout(_START_SECONDS):
                while (before := await self._count("ready")) < first:
                    await asyncio.sleep(_LOOK_SECONDS)
            async with watching(self._stack.roots()) as used:
                began = time.monotonic()
                while (left := began + seconds - time.monotonic()) > 0 and await self._count("pending"):
                    await asyncio.sleep(min(left, _LOOK_MEANWHILE_SECONDS))
                images = await self._count("ready") - before
                took = time.monotonic() - began
        return Sample(
            rate=images / took,
            errors=await self._count("failed"),
            cpu_ms=used.cpu_seconds * 1000 / images,
            peak_mib=used.peak_mib,
        )

    async def _count(self, processing: str) -> int:
        count: int = await self._database.fetchval(
            "SELECT count(*) FROM blobs WHERE processing = $1", processing
        )
        return count


@contextlib.asynccontextmanager
async def backlog_of(stack: Stack, photo: bytes) -> AsyncIterator[Backlog]:
    """Work on copies of a photograph of which no two have the same bytes."""
    file = stack.servers.data_dir / "photo.jpg"
    file.write_bytes(photo)
    database = await asyncpg.connect(stack.servers.database_url)
    try:
        yield Backlog(stack, file, database)
    finally:
        await database.close()

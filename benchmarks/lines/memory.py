"""By how much memory grows: of the API under large uploads, of a worker under large images."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from functools import partial

import asyncpg

from benchmarks.load.uploads import Seen, upload
from benchmarks.model import Limit, Line, Measured
from benchmarks.originals import BASELINE, WORST, Images
from benchmarks.photos import of_bytes
from benchmarks.processes import Usage, command, watching
from benchmarks.stack import Stack, running_stack

_EVERY_SECONDS = 0.01
_AT_ONCE = 32
_SMALL = 200_000
_LARGE = 4_900_000
_REST_SECONDS = 1.0
_PROCESSING_SECONDS = 120.0
_LOOK_SECONDS = 0.02


def _group(pid: int) -> str:
    """What a process is told of by itself: the confined children, or those who have them."""
    return "children" if ".child" in command(pid) else "parents"


async def _at_rest(pid: int) -> Usage:
    async with watching([pid], every=_EVERY_SECONDS, group_of=_group) as seen:
        await asyncio.sleep(_REST_SECONDS)
    return seen


def _growth(before: Usage, used: Usage) -> Mapping[str, float]:
    """By how much each group has grown at most, whenever that was."""
    return {f"{group} alone": mib - before.peaks_mib.get(group, 0.0) for group, mib in used.peaks_mib.items()}


async def _uploads() -> Measured:
    """Send 32 uploads of 4.9 MB at once, each of other bytes, to an API that has seen a few small ones."""
    async with running_stack() as stack:
        await _send(stack, of_bytes(_SMALL), 8, count=16)
        api = stack.api.process.pid
        before = await _at_rest(api)
        async with watching([api], every=_EVERY_SECONDS, group_of=_group) as used:
            seen = await _send(stack, of_bytes(_LARGE), _AT_ONCE, count=_AT_ONCE)
    return Measured(
        value=used.peak_mib - before.peak_mib,
        others={
            "before, MiB": before.peak_mib,
            **{f"{group}, MiB": mib for group, mib in _growth(before, used).items()},
            "accepted": len(seen.times),
        },
    )


async def _send(stack: Stack, content: bytes, connections: int, *, count: int) -> Seen:
    """Upload so many; raises when one was not accepted, as it would not have taken its memory."""
    file = stack.servers.data_dir / "upload"
    file.write_bytes(content)
    seen = await upload(stack.api.host, connections, file, count=count)
    if len(seen.times) < count:
        raise RuntimeError(f"uploads failed: {seen.failed}, {seen.refused}")
    return seen


async def _processing(images: Images) -> Measured:
    """Have a worker make the thumbnails of each image, one by one, after those of a small photo.

    The value is the growth of worker and renderers together with the worst of the images.
    """
    grown: dict[str, float] = {}
    async with _worker() as site:
        await site.process(of_bytes(_SMALL))
        before = await _at_rest(site.worker)
        for name, make in images.items():
            image = make()
            async with watching([site.worker], every=_EVERY_SECONDS, group_of=_group) as used:
                await site.process(image)
            grown[name] = used.peak_mib - before.peak_mib
            grown |= {f"{name}, {group}": mib for group, mib in _growth(before, used).items()}
    return Measured(
        value=max(grown[name] for name in images),
        others={"before, MiB": before.peak_mib, **{f"{name}, MiB": mib for name, mib in grown.items()}},
    )


@dataclass(frozen=True)
class _Site:
    """A stack with one worker, whose process id is given, and how to have an image processed."""

    stack: Stack
    worker: int
    database: asyncpg.Connection

    async def process(self, image: bytes) -> None:
        """Upload an image and wait until its thumbnails are there; raises when they do not come."""
        await _send(self.stack, image, 1, count=1)
        newest = "SELECT processing FROM blobs ORDER BY id DESC LIMIT 1"
        async with asyncio.timeout(_PROCESSING_SECONDS):
            while (processing := await self.database.fetchval(newest)) == "pending":
                await asyncio.sleep(_LOOK_SECONDS)
        if processing != "ready":
            raise RuntimeError(f"the image is {processing}")


@contextlib.asynccontextmanager
async def _worker() -> AsyncIterator[_Site]:
    async with running_stack() as stack, stack.worker() as worker:
        database = await asyncpg.connect(stack.servers.database_url)
        try:
            yield _Site(stack, worker.pid, database)
        finally:
            await database.close()


LINES: list[Line] = [
    Limit(
        key="memory-uploads",
        title="API memory, 32 uploads of 4.9 MB",
        unit="MiB",
        measure=_uploads,
        most=64,
    ),
    Limit(
        key="memory-worker-50mp",
        title="Worker memory, 50 MP baseline JPEG",
        unit="MiB",
        measure=partial(_processing, BASELINE),
        most=64,
        quick=False,
    ),
    Limit(
        key="memory-worker-any",
        title="Worker memory, worst accepted image",
        unit="MiB",
        measure=partial(_processing, WORST),
        most=400,
        quick=False,
    ),
]

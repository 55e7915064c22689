"""How soon thumbnails are there, and how many images are processed beside the bare library calls."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import sys
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from uuid import UUID

import asyncpg
import httpx
import pytest

from tests.support.crash_site import IMAGES, POLL_SECONDS, ROOT, CrashSite, crash_site
from tests.support.database import NewUrl
from tests.support.photos import jpeg, unique

SIZES = {"2 MP": (1600, 1200), "12 MP": (4000, 3000)}
ALONE = 10
AT_ONCE = 8
BATCHES = 2
BACKLOG = 40
PROCESSES = 2
LOOK_SECONDS = 0.005
# Optimising a large photo takes seconds, on a busy machine many.
SLOW_SECONDS = 600.0
READY = "SELECT b.processing FROM images i JOIN blobs b ON b.id = i.blob_id WHERE i.id = $1"


class Photos:
    """Photos of which no two are the same."""

    def __init__(self) -> None:
        self._made = 0

    def next(self, photo: bytes) -> bytes:
        self._made += 1
        return unique(photo, self._made)


async def until_ready(client: httpx.AsyncClient, pool: asyncpg.Pool, content: bytes) -> tuple[float, float]:
    """Upload; the seconds until the answer, and until all thumbnails are there."""
    began = time.monotonic()
    answer = await client.post(IMAGES, content=content)
    answered = time.monotonic() - began
    assert answer.status_code == 201, answer.text
    image_id = UUID(answer.json()["id"])
    while await pool.fetchval(READY, image_id) != "ready":
        await asyncio.sleep(LOOK_SECONDS)
    return answered, time.monotonic() - began


def row(name: str, times: Sequence[tuple[float, float]]) -> str:
    answers, ready = ([each[place] * 1000 for each in times] for place in (0, 1))
    twentieths = statistics.quantiles(ready, n=20, method="inclusive")
    return (
        f"{name:<24}{len(ready):>4}{statistics.median(answers):>12.0f}"
        f"{statistics.median(ready):>12.0f}{twentieths[-1]:>8.0f}{max(ready):>8.0f}"
    )


async def latency(site: CrashSite, pool: asyncpg.Pool, photos: Photos, photo: bytes) -> dict[str, str]:
    """Alone, and so many at a time; between them nothing else is under way."""
    rows = {}
    async with contextlib.AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(httpx.AsyncClient(base_url=site.client.base_url, timeout=60))
            for _ in range(AT_ONCE)
        ]
        await until_ready(clients[0], pool, photos.next(photo))
        await site.quiet(SLOW_SECONDS)
        times = []
        for _ in range(ALONE):
            times.append(await until_ready(clients[0], pool, photos.next(photo)))
            await site.quiet(SLOW_SECONDS)
        rows["alone"] = row("alone", times)
        times = []
        for _ in range(BATCHES):
            contents = [photos.next(photo) for _ in clients]
            times += await asyncio.gather(
                *(
                    until_ready(client, pool, content)
                    for client, content in zip(clients, contents, strict=True)
                )
            )
            await site.quiet(SLOW_SECONDS)
        rows["together"] = row(f"{AT_ONCE} at a time", times)
    return rows


async def backlog(site: CrashSite, pool: asyncpg.Pool, contents: Sequence[bytes]) -> tuple[float, float]:
    """Let work pile up without a worker; seconds from its first lease until thumbnails, and all, are made."""
    await site.worker.stop()
    for content in contents:
        assert (await site.client.post(IMAGES, content=content)).status_code == 201
    await site.worker.start()
    while not await pool.fetchval("SELECT count(*) FROM outbox WHERE leased_until IS NOT NULL"):
        await asyncio.sleep(LOOK_SECONDS)
    began = time.monotonic()
    while await pool.fetchval("SELECT count(*) FROM outbox WHERE kind = 'blob.renditions'"):
        await asyncio.sleep(POLL_SECONDS)
    thumbnails = time.monotonic() - began
    await site.quiet(SLOW_SECONDS)
    return thumbnails, time.monotonic() - began


async def bare(contents: Sequence[bytes], folder: Path) -> tuple[float, float]:
    """The same by library calls alone, in so many processes at once; seconds until thumbnails, and all."""
    folder.mkdir()
    names = []
    for number, content in enumerate(contents):
        names.append(folder / f"original-{number}.jpg")
        names[-1].write_bytes(content)
    processes = []
    for place in range(PROCESSES):
        (made := folder / f"made-{place}").mkdir()
        processes.append(
            await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "tests.support.bare_rendering", str(made), *map(str, names[place::PROCESSES])),
                stdout=asyncio.subprocess.PIPE,
                cwd=ROOT,
            )
        )
    outputs = await asyncio.gather(*(process.communicate() for process in processes))
    times = [[*map(float, output.split())] for output, _ in outputs]
    began = min(each[0] for each in times)
    return max(each[1] for each in times) - began, max(each[2] for each in times) - began


@contextlib.asynccontextmanager
async def pool_of(url: str) -> AsyncIterator[asyncpg.Pool]:
    async with asyncpg.create_pool(url, min_size=AT_ONCE, max_size=AT_ONCE) as pool:
        yield pool


@pytest.mark.long
async def test_thumbnails_come_soon_and_processing_keeps_up(
    new_url: NewUrl, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos, lines = Photos(), []
    async with crash_site(await new_url()) as site, pool_of(site.database_url) as pool:
        for name, (width, height) in SIZES.items():
            photo = jpeg(width, height, quality=88)
            title = f"{name}, {len(photo) / 1e6:.1f} MB, ms"
            lines.append(f"{title:<24}{'n':>4}{'answer p50':>12}{'ready p50':>12}{'p95':>8}{'worst':>8}")
            lines += (await latency(site, pool, photos, photo)).values()
        photo = jpeg(*SIZES["2 MP"], quality=88)
        contents = [photos.next(photo) for _ in range(BACKLOG)]
        # Before and after, for a machine that is not ours alone.
        measured = [await bare(contents, tmp_path / "before")]
        measured.append(await backlog(site, pool, contents))
        measured.append(await bare(contents, tmp_path / "after"))
    lines.append(f"{BACKLOG} images of 2 MP, images/s     thumbnails   all")
    for name, times in zip(
        ("library calls, before", "the worker", "library calls, after"), measured, strict=True
    ):
        lines.append(f"{name:<32}{BACKLOG / times[0]:>13.1f}{BACKLOG / times[1]:>6.1f}")
    calls = [(measured[0][place] + measured[2][place]) / 2 for place in (0, 1)]
    lines.append(f"{'ratio':<32}{calls[0] / measured[1][0]:>13.2f}{calls[1] / measured[1][1]:>6.2f}")
    with capsys.disabled():
        sys.stdout.write("\n" + "\n".join(lines) + "\n")
    assert all(times[1] >= times[0] for times in measured)

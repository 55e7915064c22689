"""How soon 200 images have their thumbnails when Valkey forgets everything."""

from __future__ import annotations

import asyncio
import shutil
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

import asyncpg
import pytest

from chitram.platform.settings import Settings
from chitram.platform.valkey import make_valkey
from tests.support.api import Api, make_data_dir, running_api
from tests.support.database import NewUrl
from tests.support.photos import jpeg, unique
from tests.support.servers import OwnValkey, own_valkey
from tests.support.workers import running_worker

IMAGES = 200
AT_ONCE = 8
WORKERS = 2
# When this many are ready Valkey forgets, where it does so half-way.
HALF_WAY = 50
LONGEST_SECONDS = 300
WORKER = ("chitram.main.cli", "worker")


async def flush(valkey: OwnValkey) -> None:
    client = make_valkey(Settings(valkey_url=valkey.url))
    await client.flushall()
    await client.aclose()


async def restart(valkey: OwnValkey) -> None:
    valkey.kill()
    await valkey.restart()


async def nothing(valkey: OwnValkey) -> None:
    pass


@dataclass
class Run:
    """What a scenario came to. Seconds, and the longest time in which no image became ready."""

    name: str
    ready: int
    whole: int
    seconds: float
    longest_gap: float
    failures: int

    def line(self) -> str:
        return (
            f"{self.name:<38}{self.ready:>7}{self.whole:>17}{self.seconds:>9.1f}"
            f"{self.longest_gap:>13.1f}{self.failures:>10}\n"
        )


HEAD = f"{'':<38}{'ready':>7}{'of 3 thumbnails':>17}{'seconds':>9}{'longest gap':>13}{'failures':>10}\n"


async def upload_all(api: Api) -> None:
    content = jpeg(1200, 800)

    async def upload(numbers: range) -> None:
        for number in numbers:
            await api.uploaded(unique(content, number))

    await asyncio.gather(*(upload(range(first, IMAGES, AT_ONCE)) for first in range(AT_ONCE)))


async def watch(name: str, database: asyncpg.Connection, half_way: Callable[[], Awaitable[None]]) -> Run:
    """Wait until every image is ready."""
    began = last = time.monotonic()
    ready, gap, is_past = 0, 0.0, False
    async with asyncio.timeout(LONGEST_SECONDS):
        while ready < IMAGES:
            count = await database.fetchval("SELECT count(*) FROM blobs WHERE processing = 'ready'")
            if count > ready:
                now = time.monotonic()
                ready, gap, last = count, max(gap, now - last), now
            if ready >= HALF_WAY and not is_past:
                is_past = True
                await half_way()
            await asyncio.sleep(0.05)
    whole = await database.fetchval(
        "SELECT count(*) FROM (SELECT blob_id FROM renditions WHERE kind IN"
        " ('small', 'medium', 'large') GROUP BY blob_id HAVING count(*) = 3) complete"
    )
    failed = await database.fetchval("SELECT coalesce(sum(attempts), 0) FROM outbox")
    return Run(name, ready, whole, time.monotonic() - began, gap, failed)


async def play(
    name: str,
    database_url: str,
    before: Callable[[OwnValkey], Awaitable[None]],
    half_way: Callable[[OwnValkey], Awaitable[None]],
) -> Run:
    """Upload without a worker, do something to Valkey, start the workers, do something to it again."""
    data_dir, database = make_data_dir(), await asyncpg.connect(database_url)
    try:
        with own_valkey() as valkey:
            async with running_api(database_url, valkey.url, data_dir) as api, AsyncExitStack() as workers:
                await upload_all(api)
                await before(valkey)
                for _ in range(WORKERS):
                    await workers.enter_async_context(
                        running_worker(database_url, valkey.url, program=WORKER, data_dir=data_dir)
                    )
                return await watch(name, database, lambda: half_way(valkey))
    finally:
        await database.close()
        shutil.rmtree(data_dir)


@pytest.mark.long
async def test_every_image_gets_its_thumbnails_whatever_valkey_forgets(
    new_url: NewUrl, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [
        await play("nothing happens", await new_url(), nothing, nothing),
        await play("flushed while 200 jobs wait", await new_url(), flush, nothing),
        await play("flushed when 50 are ready", await new_url(), nothing, flush),
        await play("killed and restarted empty at 50", await new_url(), nothing, restart),
    ]
    with capsys.disabled():
        sys.stdout.write(f"\n{IMAGES} images of 1 MP, {WORKERS} workers\n" + HEAD)
        sys.stdout.write("".join(run.line() for run in runs))
    assert {(run.ready, run.whole, run.failures) for run in runs} == {(IMAGES, IMAGES, 0)}

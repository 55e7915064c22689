"""Pictures that hang, exhaust or defeat a renderer: their jobs end, the worker lives."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest

from tests.support.api import Api, make_data_dir, pss, running_api
from tests.support.database import NewUrl
from tests.support.photos import blank_png, chunk, header, jpeg, png, png_file
from tests.support.workers import WorkerProcess, running_worker

WORKER = ("chitram.main.cli", "worker")
RENDER_SECONDS = 2
# 149 million pixels with transparency are more than these hold.
RENDER_MEMORY_BYTES = 512 << 20
PIXELS = 150_000_000
SIDE = 12_200
# Five attempts, and up to 2, 4, 8 and 16 s between them; each may wait for those of the others.
LONGEST_SECONDS = 120
KEPT_BYTES = 32 << 20


@dataclass
class Row:
    """One picture: how it ended, and how long after its upload."""

    name: str
    processing: str
    seconds: float
    attempts: int
    error: str

    def line(self) -> str:
        return f"{self.name:<24}{self.processing:<9}{self.seconds:>9.1f}{self.attempts:>10}   {self.error}\n"


def renderers(worker: WorkerProcess) -> list[psutil.Process]:
    """Children that make thumbnails."""
    found = []
    for child in psutil.Process(worker.pid).children():
        with contextlib.suppress(psutil.Error):
            if "chitram.images.adapters.renderer.child" in child.cmdline():
                found.append(child)
    return found


def memory(worker: WorkerProcess) -> int:
    """Proportional set size in bytes of the worker and its children."""
    process = psutil.Process(worker.pid)
    return sum(pss(each) for each in (process, *process.children(recursive=True)))


@contextlib.asynccontextmanager
async def hanging(worker: WorkerProcess) -> AsyncIterator[None]:
    """Stop every renderer in the middle of its first picture, as soon as it has begun it."""

    at_first = psutil.Process(worker.pid).nice()

    async def stop_all() -> None:
        while True:
            for child in renderers(worker):
                with contextlib.suppress(psutil.Error):
                    # Confined, it has loaded everything; what is open beside its three streams is a picture.
                    if child.nice() > at_first and child.num_fds() > 3:
                        child.send_signal(signal.SIGSTOP)
            await asyncio.sleep(0.01)

    stopping = asyncio.create_task(stop_all())
    try:
        yield
    finally:
        stopping.cancel()


async def processing(api: Api, image: dict[str, Any]) -> str:
    answer: str = (await api.client.get(f"/api/v1/images/{image['id']}")).json()["processing"]
    return answer


async def ended(api: Api, name: str, image: dict[str, Any], wanted: str) -> Row:
    """Wait until an image is what it should be."""
    began = time.monotonic()
    async with asyncio.timeout(LONGEST_SECONDS):
        while (found := await processing(api, image)) != wanted:
            await asyncio.sleep(0.1)
    seconds = time.monotonic() - began
    database = await asyncpg.connect(api.database_url)
    try:
        dead = None
        async with asyncio.timeout(10):
            while wanted == "failed" and dead is None:
                dead = await database.fetchrow(
                    "SELECT attempts, last_error FROM outbox JOIN images"
                    " ON payload->>'blob_id' = blob_id::text WHERE images.id = $1 AND dead_at IS NOT NULL",
                    image["id"],
                )
    finally:
        await database.close()
    return Row(name, found, seconds, *(dead or (0, "")))


async def optimised(api: Api) -> None:
    """Wait until nothing is to be optimised: both sorts of renderers are there and idle then."""
    database = await asyncpg.connect(api.database_url)
    try:
        async with asyncio.timeout(LONGEST_SECONDS):
            while await database.fetchval("SELECT count(*) FROM outbox WHERE kind = 'blob.optimise'"):
                await asyncio.sleep(0.1)
    finally:
        await database.close()


async def spoil(api: Api, image: dict[str, Any]) -> None:
    """Put noise in the place of the pixels, as if the check had let it pass."""
    database = await asyncpg.connect(api.database_url)
    try:
        blob_id = await database.fetchval("SELECT blob_id FROM images WHERE id = $1", image["id"])
        [path] = Path(api.data_dir, "objects").rglob(str(blob_id))
        noise = chunk(b"IDAT", os.urandom(5000))
        content = png_file(header(600, 400), noise, chunk(b"IEND"))
        path.write_bytes(content)
        await database.execute(
            "UPDATE blobs SET sha256 = $1, byte_size = $2 WHERE id = $3",
            hashlib.sha256(content).digest(),
            len(content),
            blob_id,
        )
    finally:
        await database.close()


async def admin(api: Api, *arguments: str) -> tuple[int, str]:
    """Run an administrator's command on what the API uses."""
    environment = psutil.Process(api.process.pid).environ()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "chitram.main.cli", "admin", *arguments),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


@pytest.mark.long
async def test_what_no_renderer_survives_is_given_up_in_time_and_the_worker_goes_on(
    new_url: NewUrl, valkey_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    database_url, data_dir = await new_url(), make_data_dir()
    limits = {"RENDERERS": 1, "RENDER_SECONDS": RENDER_SECONDS, "RENDER_MEMORY_BYTES": RENDER_MEMORY_BYTES}
    allowed = {"MAX_PIXELS": PIXELS, "DECODE_SECONDS": 60, "DECODE_MEMORY_BYTES": 2 << 30}
    url = valkey_url.rpartition("/")[0] + "/6"
    try:
        async with running_api(database_url, url, data_dir, allowed) as api:
            spoilt = await api.uploaded(png(), "spoilt.png")
            await spoil(api, spoilt)
            environment = {f"CHITRAM_{name}": str(value) for name, value in limits.items()}
            async with running_worker(
                database_url, url, environment, program=WORKER, data_dir=data_dir
            ) as worker:
                rows = [await ended(api, "ordinary, before", await api.uploaded(jpeg(800, 600)), "ready")]
                await optimised(api)
                before = memory(worker)
                rows.append(await ended(api, "corrupt", spoilt, "failed"))
                vast = await api.uploaded(blank_png(SIDE, 8, 6), "vast.png")
                rows.append(await ended(api, "out of memory", vast, "failed"))
                async with hanging(worker):
                    hung = await api.uploaded(jpeg(4000, 3000))
                    rows.append(await ended(api, "hanging", hung, "failed"))
                rows.append(await ended(api, "ordinary, after", await api.uploaded(jpeg(600, 800)), "ready"))
                await optimised(api)
                after = memory(worker)
                listed = await admin(api, "jobs")
                requeued = await admin(api, "jobs", "--requeue")
                rows.append(await ended(api, "hanging, requeued", hung, "ready"))
    finally:
        shutil.rmtree(data_dir)
    with capsys.disabled():
        sys.stdout.write(f"\n{'':<24}{'':<9}{'seconds':>9}{'attempts':>10}   error\n")
        sys.stdout.write("".join(row.line() for row in rows))
        sys.stdout.write(f"PSS of worker and children: {before >> 20} MiB before, {after >> 20} MiB after\n")
        sys.stdout.write(listed[1] + requeued[1])
    assert listed[0] == 1
    assert listed[1].endswith("given up: 3\n")
    assert requeued == (0, "requeued: 3\n")
    assert after < before + KEPT_BYTES

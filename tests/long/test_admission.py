"""Many uploaders at once: none fails but by the capacity refusal, nothing stalls or grows, reads go on."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from tests.api.conftest import StartApi
from tests.support.api import Api
from tests.support.load import Load, Seen
from tests.support.photos import jpeg

SECONDS = 30.0
WARM_UP_SECONDS = 5.0
READERS = 4
# Nobody is starved who is answered within this, on a machine that does all the rest too.
STARVED_SECONDS = 1.0
# Threads and their buffers come within seconds; what comes later is a leak.
GROWTH_BYTES = 32 * 2**20


async def memory_during(api: Api, seconds: float) -> list[int]:
    """Memory of the API's processes in bytes, once a second."""
    samples = []
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        samples.append(await asyncio.to_thread(api.memory))
        await asyncio.sleep(1)
    return samples


def table(title: str, idle: Seen, loaded: Seen, uploads: Seen, gap: float, memory: list[int]) -> str:
    """What was measured, for people."""
    accepted, megabytes = len(uploads.ends), [f"{size / 2**20:.0f}" for size in memory]
    times = [loaded.percentile(each) / idle.percentile(each) for each in (50, 95)]
    rows = {
        "uploads": f"{accepted} accepted ({accepted / SECONDS:.1f}/s), refused {uploads.codes}",
        "one upload, s": f"p50 {uploads.percentile(50):.2f}  p95 {uploads.percentile(95):.2f}",
        "longest gap, s": f"{gap:.2f}",
        "metadata idle, ms": milliseconds(idle),
        "metadata loaded, ms": milliseconds(loaded),
        "loaded / idle": f"p50 {times[0]:.1f}  p95 {times[1]:.1f}",
        "memory, MB": f"every 3 s: {' '.join(megabytes[::3])}",
        "machine": f"{os.cpu_count()} processors, all of its load {os.getloadavg()[0]:.1f}",
    }
    return "\n".join(["", title, *(f"  {name:20} {value}" for name, value in rows.items()), ""])


def milliseconds(seen: Seen) -> str:
    percentiles = (f"p{each} {seen.percentile(each) * 1000:.1f}" for each in (50, 95, 99))
    return f"{'  '.join(percentiles)}  ({len(seen.seconds)} reads)"


@pytest.mark.long
@pytest.mark.parametrize(
    ("uploaders", "slots", "cache_seconds"),
    [(64, 8, 3600), (32, 16, 3600), (32, 16, 0)],
    ids=["64-uploaders", "32-uploaders", "32-uploaders-without-cache"],
)
async def test_a_crowd_of_uploaders_neither_fails_nor_stalls_nor_starves_the_readers(
    start_api: StartApi,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    uploaders: int,
    slots: int,
    cache_seconds: int,
) -> None:
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(jpeg(3500, 2625, quality=90))
    assert 2.9e6 < photo.stat().st_size < 3.1e6
    settings = {"UPLOAD_CONCURRENCY": slots, "METADATA_CACHE_SECONDS": cache_seconds}
    async with start_api(HTTP_WORKERS=2, **settings) as api:
        path = f"/api/v1/images/{(await api.uploaded(jpeg()))['id']}"
        await (await Load.start("read", api.host, READERS, 1, path)).seen()
        idle = await (await Load.start("read", api.host, READERS, WARM_UP_SECONDS, path)).seen()
        await (await Load.start("upload", api.host, uploaders, WARM_UP_SECONDS, photo)).seen()
        began = time.monotonic()
        writing = await Load.start("upload", api.host, uploaders, SECONDS, photo)
        reading = await Load.start("read", api.host, READERS, SECONDS, path)
        memory = await memory_during(api, SECONDS)
        loaded, uploads = await reading.seen(), await writing.seen()
        gap = uploads.longest_gap(began, max(uploads.ends))
    with capsys.disabled():
        title = (
            f"{uploaders} uploaders of {photo.stat().st_size / 1e6:.1f} MB, {slots} slots, {SECONDS:.0f} s, "
            f"metadata cached for {cache_seconds} s"
        )
        print(table(title, idle, loaded, uploads, gap, memory))  # noqa: T201 - what was measured
    assert set(uploads.statuses) <= {201, 503}
    assert set(uploads.codes) <= {"UPLOAD_CAPACITY_EXCEEDED"}
    assert gap < 2
    assert set(loaded.statuses) == {200}
    half = len(memory) // 2
    assert max(memory[half:]) - max(memory[:half]) < GROWTH_BYTES
    assert loaded.percentile(99) < STARVED_SECONDS

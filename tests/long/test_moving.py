"""Moving images from a folder to an S3-compatible server while clients read them, killed half-way."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import shutil
import sys
import time
import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from chitram.images.domain.keys import BLOBS
from chitram.images.domain.work import DROP_COPY
from chitram.main import rounds, worker
from chitram.platform import schedule
from chitram.platform.objects.s3 import Bucket, connect
from chitram.platform.settings import Settings
from tests.support.api import make_data_dir, running_api
from tests.support.moving import Mover, Readers, files_below
from tests.support.photos import jpeg, unique
from tests.support.seaweed import Seaweed, remove_bucket, url_of
from tests.support.servers import drop_database, new_database

MOVE = ("move-storage", "--from", "folder", "--to", "bucket")
SECRET_KEYS = "a-key-that-only-tests-ever-sign-with"


@pytest.mark.parametrize("count", [40, pytest.param(500, marks=pytest.mark.long)])
async def test_images_move_under_reads_and_through_a_kill(
    postgres_url: str,
    migrated_url: str,
    valkey_url: str,
    seaweed: Seaweed,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    count: int,
) -> None:
    """No read fails, every checksum is right, and in the end nothing is left in the folder."""
    database_url = await new_database(postgres_url, template=migrated_url)
    bucket = seaweed.other_bucket(f"moved-{uuid.uuid4().hex}")
    data_dir = make_data_dir()
    folder = data_dir / "folder"
    entries = f"folder=file://{folder}", f"bucket={url_of(bucket)}"
    try:
        # New images go to the folder at first, and its being first is refused to be moved from.
        settings: dict[str, Any] = {"STORAGE_URLS": ",".join(entries), "HTTP_WORKERS": 1}
        async with running_api(database_url, valkey_url, data_dir, settings) as api:
            images = {}
            for number in range(count):
                uploaded = await api.uploaded(unique(jpeg(320, 240), number))
                images[uploaded["url"]] = uploaded["checksum"]
            assert len(set(images.values())) == count
            status, said = await Mover(api, ",".join(entries)).run(*MOVE)
            assert (status, "is the first entry" in said) == (1, True), said
        settings["STORAGE_URLS"] = ",".join(reversed(entries))
        settings["HTTP_WORKERS"] = 2
        async with running_api(database_url, valkey_url, data_dir, settings) as api:
            api.bucket = bucket
            mover, readers = Mover(api, settings["STORAGE_URLS"]), Readers(api, images)
            began = time.monotonic()
            async with readers.reading(4):
                moved_at_kill = await mover.kill_when_moved(count // 3, *MOVE)
                status, said = await mover.run(*MOVE)
                seconds = time.monotonic() - began
                assert status == 0, said
                assert moved_at_kill < count
                assert f"moved from folder to bucket: {count - moved_at_kill}" in said
                # The old copies go while clients read on.
                assert len(files_below(folder)) == count
                await _let_time_pass(database_url)
                dropping = time.monotonic()
                await _work_until_empty(database_url, valkey_url, data_dir, settings, folder, monkeypatch)
                dropped = time.monotonic() - dropping
            await readers.read_all()
            assert readers.failed == []
            in_bucket = {
                key.rpartition("/")[2]: hashlib.sha256(stored(bucket, key)).hexdigest()
                for key in api.objects()
                if key.startswith(BLOBS)  # the worker may have made thumbnails, too
            }
            assert sorted(in_bucket.values()) == sorted(images.values())
            status, said = await mover.run("reconcile")
            assert status == 0, said
            # Now, and only now, the folder may be left out.
            status, said = await Mover(api, entries[1]).run("reconcile")
            assert status == 0, said
        with capsys.disabled():
            sys.stdout.write(
                f"\nmoved {count} images in {seconds:.1f} s, killed at {moved_at_kill}; "
                f"old copies gone in {dropped:.1f} s; {readers.read} reads, {len(readers.failed)} failed, "
                f"slowest {readers.slowest * 1000:.0f} ms; {len(in_bucket)} checksums right\n"
            )
    finally:
        remove_bucket(bucket)
        shutil.rmtree(data_dir, ignore_errors=True)
        await drop_database(database_url)


def stored(bucket: Bucket, key: str) -> bytes:
    return bytes(connect(bucket, 4, {}).get(key).bytes())


async def _let_time_pass(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute("UPDATE outbox SET run_after = now() WHERE kind = $1", DROP_COPY)
    finally:
        await connection.close()


async def _work_until_empty(
    database_url: str,
    valkey_url: str,
    data_dir: Path,
    settings: dict[str, Any],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Run a worker until the folder has no file any more."""
    monkeypatch.setattr(rounds, "SWEEP", timedelta(seconds=0.1))
    monkeypatch.setattr(schedule, "TICK_SECONDS", 0.1)
    stop = asyncio.Event()
    running = asyncio.create_task(
        worker.serve(
            Settings(
                database_url=database_url,
                valkey_url=valkey_url,
                data_dir=str(data_dir),
                storage_urls=str(settings["STORAGE_URLS"]),
                secret_keys=(SECRET_KEYS,),
                log_level="warning",
            ),
            stop,
        )
    )
    try:
        async with asyncio.timeout(120):
            while files_below(folder):
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(asyncio.shield(running), 0.2)
    finally:
        stop.set()
        await running

"""What clients notice when the object store is killed, hangs, or comes back empty."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.support.api import make_data_dir, running_api
from tests.support.database import NewUrl
from tests.support.outage import Outage, measure, table
from tests.support.photos import jpeg, unique
from tests.support.proxy import Mode, Proxy
from tests.support.rows import make_images
from tests.support.seaweed import Seaweed, running_seaweed, url_of
from tests.support.steady_load import Client, Request, Sample, SteadyLoad

PHASE_SECONDS = 8.0
READS_PER_SECOND = 100.0
IMAGES = 200
UPLOAD_EVERY = 50
FILE_EVERY = 10
KINDS = ("metadata", "file", "upload")
# All that may be refused meanwhile, and the only words for it.
ALLOWED = {"file 503 STORAGE_UNAVAILABLE", "upload 503 STORAGE_UNAVAILABLE"}
# A store is given 4 seconds to answer and a client is told within 5; a little more under this load.
LONGEST_SECONDS = 6.0


def mixed(paths: Sequence[str], file: str) -> Iterator[Request]:
    """Metadata in turn, now and then a file, seldom the upload of a new image."""
    read, photo = itertools.cycle(paths), jpeg(640, 480)
    for number in itertools.count(1):
        if number % UPLOAD_EVERY == 0:
            yield Request(
                "upload",
                "POST",
                "/api/v1/images",
                unique(photo, number),
                (("content-type", "image/jpeg"),),
            )
        elif number % FILE_EVERY == 0:
            yield Request("file", "GET", file)
        else:
            yield Request("metadata", "GET", next(read))


def store_outages(server: Seaweed, directory: Path, proxy: Proxy) -> list[Outage]:
    """Killed and started again, hanging, and started again without its data."""

    async def kill() -> None:
        await asyncio.to_thread(server.kill)

    async def restart() -> None:
        # The time that the server takes to start counts as time to recovery.
        server.process = server.launch()

    async def hang() -> None:
        proxy.mode = Mode.HANG

    async def answer() -> None:
        proxy.mode = Mode.PASS
        proxy.cut_all()

    async def lose_everything() -> None:
        await kill()
        for path in directory.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    return [
        Outage("store killed", kill, restart),
        Outage("store hanging", hang, answer),
        Outage("store restarted empty", lose_everything, restart),
    ]


def is_stored(sample: Sample) -> bool:
    """Whether a sample shows that the store takes images again."""
    return sample.kind == "upload" and sample.status == 201


@pytest.mark.long
async def test_only_files_and_uploads_are_refused_without_the_store(
    new_url: NewUrl, valkey_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    database_url, data_dir = await new_url(), make_data_dir()
    images = await make_images(database_url, IMAGES, shard="s3")
    try:
        with running_seaweed(tmp_path) as server:
            async with Proxy(server.endpoint) as proxy:
                bucket = dataclasses.replace(server.bucket, endpoint=proxy.url)
                settings = {"STORAGE_URLS": f"s3={url_of(bucket)}"}
                async with (
                    running_api(database_url, valkey_url, data_dir, settings) as api,
                    Client(api.url) as client,
                ):
                    kept = await api.uploaded(jpeg(800, 600))
                    requests = mixed([image.path for image in images], kept["url"])
                    load = SteadyLoad(client, requests, READS_PER_SECOND)
                    rows = await measure(
                        load, store_outages(server, tmp_path, proxy), PHASE_SECONDS, is_stored
                    )
                    lost = await api.client.get(kept["url"])
                    assert (lost.status_code, lost.headers["cache-control"]) == (503, "no-store")
                    assert (await api.uploaded(jpeg(800, 600)))["id"] != kept["id"]
                    assert (await api.client.get(kept["url"])).status_code == 200
    finally:
        shutil.rmtree(data_dir)
    with capsys.disabled():
        sys.stdout.write("\n" + table(rows, KINDS))
    normal, *broken = rows
    assert not normal.errors
    assert {error for row in broken for error in row.errors} <= ALLOWED
    assert [row.name for row in broken if row.worst > LONGEST_SECONDS] == []
    assert all(row.recovery is not None for row in broken)

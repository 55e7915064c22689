"""What clients are told when an S3-compatible store fails, and that nothing is kept then."""

from __future__ import annotations

import asyncio
import dataclasses
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.api.conftest import StartApi
from tests.support.photos import jpeg, png_of
from tests.support.proxy import Mode, Proxy
from tests.support.seaweed import Seaweed, remove_bucket, running_seaweed, url_of

pytestmark = pytest.mark.only_over("s3", reason="a server fails")

LIMIT_SECONDS = 5.0


@pytest.fixture
def own_seaweed(tmp_path: Path) -> Iterator[Seaweed]:
    """A server to be killed."""
    with running_seaweed(tmp_path) as server:
        yield server


async def test_a_store_killed_in_the_middle_of_an_upload_keeps_nothing_and_works_again(
    start_api: StartApi, own_seaweed: Seaweed
) -> None:
    """The second of three parts reaches a server that dies of it."""
    noise = np.random.default_rng(7).integers(0, 256, (2600, 2600, 3), np.uint8)
    large = png_of(noise, 8, 2)
    assert len(large) > 2 * 8 * 1024 * 1024
    asked: list[bytes] = []

    def kill_at_second_part(data: bytes) -> None:
        if b"partNumber=2" in data:
            asked.append(data)
            own_seaweed.kill()

    async with Proxy(own_seaweed.endpoint, kill_at_second_part) as proxy:
        bucket = dataclasses.replace(own_seaweed.bucket, endpoint=proxy.url)
        async with start_api(
            HTTP_WORKERS=1, STORAGE_URLS=f"s3={url_of(bucket)}", MAX_UPLOAD_BYTES=64 * 1024 * 1024
        ) as api:
            api.bucket = own_seaweed.bucket
            kept = await api.uploaded(jpeg())
            answer = await api.upload(large, "large.png")
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "STORAGE_UNAVAILABLE")
            assert int(answer.headers["retry-after"]) > 0
            assert asked
            assert (await api.rows("blobs"), await api.rows("images")) == (1, 1)
            assert list((api.data_dir / "spool").iterdir()) == []
            assert (await api.client.get(kept["url"])).status_code == 503
            assert (await api.client.get(f"/api/v1/images/{kept['id']}")).status_code == 200
            own_seaweed.restart()
            assert await api.kept() == (1, 1, 1)
            async with asyncio.timeout(30):
                while (await api.client.get(kept["url"])).status_code != 200:
                    await asyncio.sleep(0.1)
            asked.clear()
            assert (await api.upload(jpeg(48, 64))).status_code == 201
            assert await api.kept() == (2, 2, 2)


async def test_a_store_that_hangs_is_said_in_time_and_works_again(
    start_api: StartApi, own_seaweed: Seaweed
) -> None:
    async with Proxy(own_seaweed.endpoint) as proxy:
        bucket = dataclasses.replace(own_seaweed.bucket, endpoint=proxy.url)
        async with start_api(HTTP_WORKERS=1, STORAGE_URLS=f"s3={url_of(bucket)}") as api:
            api.bucket = own_seaweed.bucket
            kept = await api.uploaded(jpeg())
            proxy.mode = Mode.HANG
            started = time.monotonic()
            answers = await asyncio.gather(api.upload(jpeg(48, 64)), api.client.get(kept["url"]))
            assert time.monotonic() - started < LIMIT_SECONDS
            for answer in answers:
                assert (answer.status_code, answer.json()["error"]["code"]) == (503, "STORAGE_UNAVAILABLE")
            assert (await api.client.get(f"/api/v1/images/{kept['id']}")).status_code == 200
            assert (await api.client.get("/health")).status_code == 503
            proxy.mode = Mode.PASS
            proxy.cut_all()
            assert (await api.client.get(kept["url"])).status_code == 200
            assert (await api.upload(jpeg(48, 64))).status_code == 201
            assert await api.kept() == (2, 2, 2)


async def test_a_store_that_comes_after_the_service_gets_its_bucket_then(
    start_api: StartApi, seaweed: Seaweed
) -> None:
    missing = seaweed.other_bucket(f"late-{uuid.uuid4().hex}")
    try:
        async with Proxy(seaweed.endpoint) as proxy:
            proxy.mode = Mode.CUT
            bucket = dataclasses.replace(missing, endpoint=proxy.url)
            async with start_api(STORAGE_URLS=f"s3={url_of(bucket)}") as api:
                assert (await api.client.get("/health/ready")).status_code == 503
                proxy.mode = Mode.PASS
                # Asking changes nothing: this server makes a bucket by itself only for what is put.
                async with asyncio.timeout(30):
                    while (await api.client.get("/health/ready")).status_code != 200:
                        await asyncio.sleep(0.1)
    finally:
        remove_bucket(missing)

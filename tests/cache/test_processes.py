"""The metadata cache over real API processes."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator

import pytest

from chitram.delivery.adapters.metadata_cache.statistics import Counts, read_sums, reset_sums
from chitram.platform.settings import PREFIX, Settings
from chitram.platform.valkey import make_valkey
from tests.support.instances import Instance, instances
from tests.support.proxy import Mode
from tests.support.rows import MadeImage, make_images
from tests.support.servers import drop_database, new_database
from tests.support.steady_load import Client, Request

Pair = tuple[Instance, Instance]


@pytest.fixture(scope="module")
def own_database(valkey_url: str) -> str:
    """A Valkey database of this module's own."""
    return f"{valkey_url.rpartition('/')[0]}/5"


@pytest.fixture(scope="module")
async def pair(postgres_url: str, migrated_url: str, own_database: str) -> AsyncIterator[Pair]:
    database_url = await new_database(postgres_url, template=migrated_url)
    async with instances(database_url, own_database, 2) as (first, second):
        yield first, second
    await drop_database(database_url)


async def status(instance: Instance, image: MadeImage) -> int:
    return (await instance.api.client.get(image.path)).status_code


async def counted(own_database: str, requests: int) -> Counts:
    """The sums, once they are those of so many requests."""
    client = make_valkey(Settings(valkey_url=own_database))
    try:
        async with asyncio.timeout(10):
            while True:
                sums = await read_sums(client)
                if sums.local_hits + sums.shared_hits + sums.misses >= requests:
                    return sums
                await asyncio.sleep(0.05)
    finally:
        await reset_sums(client)
        await client.aclose()


async def test_a_crowd_over_two_processes_makes_one_load_of_each_image(pair: Pair, own_database: str) -> None:
    images = await make_images(pair[0].api.database_url, 10)
    async with Client(pair[0].api.url) as first, Client(pair[1].api.url) as second:
        for image in images:
            request = Request("read", "GET", image.path)
            crowd = [client.ask(request) for client in (first, second) for _ in range(10)]
            assert {sample.status for sample in await asyncio.gather(*crowd)} == {200}
    sums = await counted(own_database, 200)
    # A machine that stands still for a moment may make one of them lose patience; without leases it
    # would be one load for each process and image.
    assert len(images) <= sums.loads <= len(images) + 3


async def test_repeated_reads_are_hits_for_more_than_95_in_100(pair: Pair, own_database: str) -> None:
    [image] = await make_images(pair[0].api.database_url, 1)
    for _ in range(30):
        await asyncio.gather(*(status(instance, image) for instance in pair for _ in range(5)))
    sums = await counted(own_database, 300)
    assert sums.hit_ratio is not None
    assert sums.hit_ratio > 0.95


@pytest.mark.parametrize("mode", [Mode.PASS, Mode.LOSE_MESSAGES, Mode.CUT, Mode.HANG])
async def test_a_deleted_image_is_gone_here_at_once_and_there_within_a_second(pair: Pair, mode: Mode) -> None:
    here, there = pair
    images = await make_images(here.api.database_url, 5)
    for instance in pair:
        assert {await status(instance, image) for image in images} == {200}
    try:
        for instance in pair:
            instance.valkey.mode = mode
            if mode is Mode.CUT:
                instance.valkey.cut_all()
        answered = []
        for image in images:
            gone = await here.api.client.delete(image.path, headers={"x-delete-token": image.token})
            assert gone.status_code == 204
            answered.append(time.monotonic())
            assert await status(here, image) == 404
        await asyncio.sleep(1 + answered[-1] - time.monotonic())
        assert {await status(there, image) for image in images} == {404}
    finally:
        for instance in pair:
            instance.valkey.mode = Mode.PASS
    assert {await status(instance, image) for instance in pair for image in images} == {404}


async def test_an_administrator_sees_the_sums(pair: Pair, own_database: str) -> None:
    [image] = await make_images(pair[0].api.database_url, 1)
    assert {await status(instance, image) for instance in pair} == {200}
    environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    environment |= {
        f"{PREFIX}DATABASE_URL": pair[0].api.database_url,
        f"{PREFIX}VALKEY_URL": own_database,
        f"{PREFIX}DATA_DIR": str(pair[0].api.data_dir),
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "chitram.main.cli", "admin", "cache", "--reset"),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    names = [line.partition(":")[0] for line in output.decode().splitlines()]
    assert names == [*(name.replace("_", " ") for name in Counts.__struct_fields__), "hit ratio"]

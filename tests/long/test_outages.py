"""What clients notice when something we depend on is killed, hangs, or comes back empty."""

from __future__ import annotations

import itertools
import shutil
import sys
from collections.abc import Iterator, Sequence

import pytest

from chitram.platform.settings import Settings
from chitram.platform.valkey import make_valkey
from tests.support.api import Api, make_data_dir, running_api
from tests.support.database import NewUrl
from tests.support.outage import Outage, measure, table
from tests.support.photos import jpeg
from tests.support.proxy import Mode, Proxy
from tests.support.rows import make_images
from tests.support.servers import OwnValkey, own_valkey
from tests.support.steady_load import Client, Request, SteadyLoad

PHASE_SECONDS = 8.0
READS_PER_SECOND = 100.0
# So many that each is asked for every other second: the memory of a process never answers.
IMAGES = 200
# One in so many requests is an upload, or a read of a file.
UPLOAD_EVERY = 50
FILE_EVERY = 10
# What Valkey may cost a request, and what the machine may add of itself.
LONGER_SECONDS = 0.25
KINDS = ("metadata", "file", "upload")


def mixed(paths: Sequence[str], file: str) -> Iterator[Request]:
    """Metadata in turn, now and then a file, seldom an upload."""
    read = itertools.cycle(paths)
    for number in itertools.count(1):
        if number % UPLOAD_EVERY == 0:
            body = jpeg(64, 48 + number % 16)
            yield Request("upload", "POST", "/api/v1/images", body, (("content-type", "image/jpeg"),))
        elif number % FILE_EVERY == 0:
            yield Request("file", "GET", file)
        else:
            yield Request("metadata", "GET", next(read))


def valkey_outages(valkey: OwnValkey, proxy: Proxy) -> list[Outage]:
    """Killed and started again, hanging, and emptied."""

    async def kill() -> None:
        valkey.kill()

    async def hang() -> None:
        proxy.mode = Mode.HANG

    async def answer() -> None:
        proxy.mode = Mode.PASS

    async def flush() -> None:
        client = make_valkey(Settings(valkey_url=valkey.url))
        await client.flushall()
        await client.aclose()

    async def nothing() -> None:
        pass

    return [
        Outage("Valkey killed", kill, valkey.restart),
        Outage("Valkey hanging", hang, answer),
        Outage("Valkey flushed", flush, nothing),
    ]


async def first_file(api: Api) -> str:
    """Address of the file of an uploaded image."""
    url: str = (await api.uploaded(jpeg(640, 480)))["url"]
    return url


@pytest.mark.long
async def test_nobody_is_refused_because_of_valkey(
    new_url: NewUrl, capsys: pytest.CaptureFixture[str]
) -> None:
    database_url, data_dir = await new_url(), make_data_dir()
    images = await make_images(database_url, IMAGES)
    try:
        with own_valkey() as valkey:
            async with (
                Proxy(valkey.url) as proxy,
                running_api(database_url, proxy.url, data_dir) as api,
                Client(api.url) as client,
            ):
                requests = mixed([image.path for image in images], await first_file(api))
                load = SteadyLoad(client, requests, READS_PER_SECOND)
                rows = await measure(
                    load, valkey_outages(valkey, proxy), PHASE_SECONDS, lambda sample: sample.x_cache == "HIT"
                )
    finally:
        log = (data_dir / "api.log").read_text()
        shutil.rmtree(data_dir)
    with capsys.disabled():
        sys.stdout.write("\n" + table(rows, KINDS))
    assert {row.name: row.errors for row in rows if row.errors} == {}, log
    normal, *broken = rows
    assert [row.name for row in broken if row.worst > normal.worst + LONGER_SECONDS] == []
    assert all(row.recovery is not None for row in broken)

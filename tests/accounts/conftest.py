"""The application in this process, over servers of its own, for people who have signed in."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from chitram.platform.settings import Settings, spool_dir
from chitram.platform.valkey import make_valkey
from tests.support.api import make_data_dir
from tests.support.credentials import SECRET_KEYS, People
from tests.support.database import Database
from tests.support.in_process import in_process
from tests.support.proxy import Mode, Proxy
from tests.support.servers import drop_database, new_database


@pytest.fixture(scope="module")
async def database(postgres_url: str, migrated_url: str) -> AsyncIterator[Database]:
    """One for each module: everybody in it has an account of their own."""
    url = await new_database(postgres_url, template=migrated_url)
    opened = await Database.open(url)
    yield opened
    await opened.aclose()
    await drop_database(url)


@pytest.fixture(scope="module")
def people(database: Database) -> People:
    return People(database.pool)


@pytest.fixture(scope="module")
async def valkey(valkey_url: str) -> str:
    """A Valkey database of the module's own."""
    url = f"{valkey_url.rpartition('/')[0]}/7"
    client = make_valkey(Settings(valkey_url=url))
    await client.flushdb()
    await client.aclose()
    return url


@pytest.fixture(scope="module")
def sent() -> list[bytes]:
    """All that went to Valkey through `proxy`."""
    return []


@pytest.fixture(scope="module")
async def relay(valkey: str, sent: list[bytes]) -> AsyncIterator[Proxy]:
    async with Proxy(valkey, watch=sent.append) as opened:
        yield opened


@pytest.fixture
def proxy(relay: Proxy) -> Iterator[Proxy]:
    """The way to Valkey, for a test to break: it is mended in the end."""
    yield relay
    relay.mode = Mode.PASS


@pytest.fixture(scope="module")
def settings(database: Database, relay: Proxy) -> Iterator[Settings]:
    data_dir = make_data_dir()
    settings = Settings(
        database_url=database.url,
        valkey_url=relay.url,
        data_dir=str(data_dir),
        secret_keys=SECRET_KEYS,
        decoders=1,
    )
    spool_dir(settings).mkdir()
    yield settings
    shutil.rmtree(data_dir)


@pytest.fixture(scope="module")
async def client(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with in_process(settings) as opened:
        yield opened

"""Two processes' worth of metadata cache over one Valkey."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from chitram.platform.settings import Settings
from chitram.platform.valkey import make_valkey
from tests.support.caches import CacheProcess, FakeEpochs, Rows
from tests.support.proxy import Proxy


@pytest.fixture
def rows() -> Rows:
    return Rows()


@pytest.fixture
def epochs() -> FakeEpochs:
    return FakeEpochs()


@pytest.fixture
async def valkey(valkey_url: str) -> str:
    """A Valkey database of the test's own."""
    url = f"{valkey_url.rpartition('/')[0]}/6"
    async with make_valkey(Settings(valkey_url=url)) as client:
        await client.flushdb()
    return url


@pytest.fixture
async def proxy(valkey: str) -> AsyncIterator[Proxy]:
    """The way to Valkey of `here`; `there` has another."""
    async with Proxy(valkey) as relay:
        yield relay


@pytest.fixture
async def here(rows: Rows, epochs: FakeEpochs, proxy: Proxy) -> AsyncIterator[CacheProcess]:
    process = CacheProcess(rows, epochs, proxy.url)
    await process.epoch.read()
    yield process
    await process.aclose()


@pytest.fixture
async def there(rows: Rows, epochs: FakeEpochs, valkey: str) -> AsyncIterator[CacheProcess]:
    process = CacheProcess(rows, epochs, valkey)
    await process.epoch.read()
    yield process
    await process.aclose()

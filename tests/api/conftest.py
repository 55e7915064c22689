"""One API for the tests that leave nothing of it changed, and a way to start others."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager

import pytest

from tests.support.api import Api, make_data_dir, running_api
from tests.support.servers import drop_database, new_database

StartApi = Callable[..., AbstractAsyncContextManager[Api]]


@pytest.fixture(scope="session")
def start_api(postgres_url: str, migrated_url: str, valkey_url: str) -> StartApi:
    """Start an API with a database and a data directory of its own: `start_api(SETTING=value)`.

    `through` may put something between the API and its database: it is awaited with the URL of
    that and returns another.
    """

    @contextlib.asynccontextmanager
    async def start(
        through: Callable[[str], Awaitable[str]] | None = None, **settings: object
    ) -> AsyncIterator[Api]:
        database_url = await new_database(postgres_url, template=migrated_url)
        data_dir = make_data_dir()
        url = await through(database_url) if through else database_url
        try:
            async with running_api(url, valkey_url, data_dir, settings) as api:
                api.database_url = database_url
                yield api
        finally:
            shutil.rmtree(data_dir, ignore_errors=True)
            await drop_database(database_url)

    return start


@pytest.fixture(scope="session")
async def api(start_api: StartApi) -> AsyncIterator[Api]:
    """An API with default settings, shared by all tests."""
    async with start_api() as started:
        yield started


@pytest.fixture(scope="session")
async def keeping_api(start_api: StartApi) -> AsyncIterator[Api]:
    """An API that keeps metadata, shared by all tests."""
    async with start_api(METADATA_POLICY="keep", HTTP_WORKERS=1) as started:
        yield started

"""A way to start APIs whose store is a test's own choice."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

import pytest

from tests.support.api import Api, make_data_dir, running_api
from tests.support.servers import drop_database, new_database

StartApi = Callable[..., AbstractAsyncContextManager[Api]]


@pytest.fixture(scope="session")
def start_api(postgres_url: str, migrated_url: str, valkey_url: str) -> StartApi:
    """Start an API with a database and a data directory of its own: `start_api(SETTING=value)`."""

    @contextlib.asynccontextmanager
    async def start(**settings: object) -> AsyncIterator[Api]:
        database_url, data_dir = await new_database(postgres_url, template=migrated_url), make_data_dir()
        try:
            async with running_api(database_url, valkey_url, data_dir, settings) as api:
                yield api
        finally:
            shutil.rmtree(data_dir, ignore_errors=True)
            await drop_database(database_url)

    return start

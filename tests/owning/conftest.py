"""APIs with people in them who own images."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import AsyncIterator

import pytest

from tests.support.accounts import Accounts
from tests.support.api import make_data_dir, running_api
from tests.support.owning import House, StartHouse
from tests.support.servers import drop_database, new_database


@pytest.fixture(scope="session")
def start_house(postgres_url: str, migrated_url: str, valkey_url: str) -> StartHouse:
    """Start an API of one process with people in it: `start_house(SETTING=value)`."""

    @contextlib.asynccontextmanager
    async def start(**settings: object) -> AsyncIterator[House]:
        database_url, data_dir = await new_database(postgres_url, template=migrated_url), make_data_dir()
        given = {"HTTP_WORKERS": 1, "DECODERS": 1, **settings}
        try:
            async with (
                running_api(database_url, valkey_url, data_dir, given) as api,
                Accounts.of(database_url) as accounts,
            ):
                people = [await accounts.somebody(is_admin=is_admin) for is_admin in (False, False, True)]
                yield House(api, accounts, *people)
        finally:
            shutil.rmtree(data_dir, ignore_errors=True)
            await drop_database(database_url)

    return start


@pytest.fixture(scope="session")
async def house(start_house: StartHouse) -> AsyncIterator[House]:
    """One for all tests that leave nothing of it changed but what they add."""
    async with start_house() as started:
        yield started

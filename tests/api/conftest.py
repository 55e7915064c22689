"""One API for the tests that leave nothing of it changed, and a way to start others."""

from __future__ import annotations

import contextlib
import shutil
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager

import pytest

from tests.support.api import Api, make_data_dir, running_api
from tests.support.seaweed import Seaweed, remove_bucket, url_of
from tests.support.servers import drop_database, new_database

StartApi = Callable[..., AbstractAsyncContextManager[Api]]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what only makes sense over another kind of store."""
    senseless = [item for item in items if _is_over_the_wrong_store(item)]
    config.hook.pytest_deselected(items=senseless)
    items[:] = [item for item in items if not _is_over_the_wrong_store(item)]


def _is_over_the_wrong_store(item: pytest.Item) -> bool:
    mark, call = item.get_closest_marker("only_over"), getattr(item, "callspec", None)
    return bool(mark and call and call.params.get("store", mark.args[0]) != mark.args[0])


@pytest.fixture(scope="session", params=["local", "s3"], ids=["over-local", "over-s3"])
def store(request: pytest.FixtureRequest) -> str:
    """What the APIs keep images in: everything here is tested over each. `-k over-s3` selects."""
    kind: str = request.param
    return kind


@pytest.fixture(scope="session")
def start_api(
    request: pytest.FixtureRequest, postgres_url: str, migrated_url: str, valkey_url: str, store: str
) -> StartApi:
    """Start an API with a database, a data directory and a store of its own: `start_api(SETTING=value)`.

    `through` may put something between the API and its database: it is awaited with the URL of
    that and returns another.
    """

    @contextlib.asynccontextmanager
    async def start(
        through: Callable[[str], Awaitable[str]] | None = None, **settings: object
    ) -> AsyncIterator[Api]:
        database_url = await new_database(postgres_url, template=migrated_url)
        data_dir = make_data_dir()
        bucket = None
        if store == "s3" and "STORAGE_URLS" not in settings:
            server: Seaweed = request.getfixturevalue("seaweed")
            bucket = server.other_bucket(f"api-{uuid.uuid4().hex}")
            settings["STORAGE_URLS"] = f"s3={url_of(bucket)}"
        url = await through(database_url) if through else database_url
        try:
            async with running_api(url, valkey_url, data_dir, settings) as api:
                api.database_url, api.bucket = database_url, bucket
                yield api
        finally:
            if bucket:
                remove_bucket(bucket)
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

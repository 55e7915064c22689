"""A way to start APIs whose store is a test's own choice, and one in every mode of delivery."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

import httpx
import pytest

from chitram.platform.objects.base import ObjectStore
from chitram.platform.objects.local import LocalStore
from chitram.platform.objects.remote import RemoteStore
from tests.support.api import Api, make_data_dir, running_api
from tests.support.nginx import running_nginx
from tests.support.seaweed import Seaweed, url_of
from tests.support.served import MODES, Served, serve
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


@pytest.fixture(scope="session", params=MODES)
async def served(
    request: pytest.FixtureRequest, start_api: StartApi, seaweed: Seaweed
) -> AsyncIterator[Served]:
    """An API in one mode of delivery, shared by all tests."""
    # A bucket of these tests alone: others clear theirs.
    bucket = seaweed.other_bucket("delivery")
    given: dict[str, object] = {"FILE_DELIVERY": request.param}
    if request.param == "redirect":
        given["STORAGE_URLS"] = f"remote={url_of(bucket)}"
    async with start_api(**given) as api:
        local = LocalStore("local", api.data_dir / "objects")
        store: ObjectStore = RemoteStore("remote", bucket) if request.param == "redirect" else local
        await store.start()
        try:
            if request.param != "accel":
                yield await serve(request.param, api, store)
                return
            with running_nginx("{}:{}".format(*api.host), api.data_dir / "objects") as url:
                async with httpx.AsyncClient(base_url=url, timeout=30) as client:
                    yield await serve(request.param, replace(api, url=url, client=client), store)
        finally:
            await store.aclose()

"""Several instances of the API over the same servers."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass

from tests.support.api import Api, make_data_dir, running_api
from tests.support.proxy import Proxy


@dataclass(frozen=True)
class Instance:
    """One API of one process, and its own way to Valkey."""

    api: Api
    valkey: Proxy


@contextlib.asynccontextmanager
async def instances(
    database_url: str, valkey_url: str, count: int, **more: object
) -> AsyncIterator[list[Instance]]:
    """Run so many over one database and one Valkey, with `more` settings."""
    settings = {"HTTP_WORKERS": 1, "DECODERS": 1, "DATABASE_POOL_SIZE": 4, **more}
    async with contextlib.AsyncExitStack() as stack:
        made = []
        for _ in range(count):
            proxy = await stack.enter_async_context(Proxy(valkey_url))
            data_dir = make_data_dir()
            stack.callback(shutil.rmtree, data_dir)
            api = await stack.enter_async_context(running_api(database_url, proxy.url, data_dir, settings))
            made.append(Instance(api, proxy))
        yield made

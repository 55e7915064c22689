"""The embedded servers of a data directory, for as long as someone needs them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from urllib.parse import urlsplit

import asyncpg
import msgspec

from chitram.platform.embedded import valkey
from chitram.platform.embedded.directory import DataDirectory, InUse
from chitram.platform.embedded.errors import StartError
from chitram.platform.embedded.postgres import Postgres, ignore_client_variables
from chitram.platform.embedded.service import running
from chitram.platform.settings import Settings, data_dir

_CONNECT_SECONDS = 10.0


@contextmanager
def attached(settings: Settings) -> Iterator[Settings]:
    """Settings whose `database_url` and `valkey_url` lead to servers that answer.

    URLs that are set stay as they are. Those missing are the ones of the stack that runs on the
    data directory; when none does, the servers are started and end with the block. Not to be
    entered from a running event loop. Raises `StartError`.
    """
    if settings.database_url and settings.valkey_url:
        yield settings
        return
    directory = DataDirectory(data_dir(settings))
    with ExitStack() as servers:
        try:
            servers.enter_context(directory.held())
        except InUse as in_use:
            settings = _of_running(settings, directory, in_use)
        else:
            settings = _started(settings, directory, servers)
        yield settings


def _started(settings: Settings, directory: DataDirectory, servers: ExitStack) -> Settings:
    urls = {}
    if not settings.database_url:
        ignore_client_variables()
        postgres = Postgres(directory)
        servers.enter_context(running(postgres.service))
        urls["database_url"] = postgres.url
    if not settings.valkey_url:
        server = valkey.Valkey(directory)
        servers.enter_context(running(server.service))
        urls["valkey_url"] = server.url
    return msgspec.structs.replace(settings, **urls)


def _of_running(settings: Settings, directory: DataDirectory, in_use: InUse) -> Settings:
    published = directory.published()
    if published is None:
        raise in_use
    urls = {}
    if not settings.database_url:
        ignore_client_variables()
        urls["database_url"] = published.database_url
        check_database(published.database_url)
    if not settings.valkey_url:
        urls["valkey_url"] = published.valkey_url
    return msgspec.structs.replace(settings, **urls)


def check_database(url: str) -> None:
    """Return when the database at `url` takes connections; raises `StartError` in one line."""
    try:
        asyncio.run(_connect(url))
    except (OSError, ValueError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        place = urlsplit(url).netloc.rpartition("@")[2]  # without user and password
        reason = str(error) or "time is up"
        raise StartError(
            f"The database at {place} does not answer: {reason}. Start it, or check CHITRAM_DATABASE_URL."
        ) from error


async def _connect(url: str) -> None:
    connection = await asyncpg.connect(url, timeout=_CONNECT_SECONDS)
    await connection.close()

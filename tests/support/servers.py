"""Real servers for tests: one PostgreSQL and one Valkey for the whole run, a database per need.

The fixtures are for `tests/conftest.py` to import.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest

from chitram.platform.embedded.directory import DataDirectory
from chitram.platform.embedded.postgres import Postgres
from chitram.platform.embedded.process import Process
from chitram.platform.embedded.service import await_ready, running
from chitram.platform.embedded.valkey import Valkey

_MEMORY = Path("/dev/shm")  # noqa: S108 - mkdtemp makes a directory of its own there
_MEMORY_BYTES = 1 << 30


@contextmanager
def data_place() -> Iterator[Path]:
    """A directory, empty and removed in the end, that the servers of root can reach.

    Those of pytest are closed to every other user.
    """
    path = Path(tempfile.mkdtemp(prefix="chitram-test-", dir=_memory()))
    try:
        yield path
    finally:
        shutil.rmtree(path)


def _memory() -> Path | None:
    """Where files are kept in memory, given room for several servers and leave to run programs."""
    if not (_MEMORY.is_dir() and os.access(_MEMORY, os.W_OK)):
        return None
    found = os.statvfs(_MEMORY)
    roomy = found.f_bavail * found.f_frsize >= _MEMORY_BYTES
    return _MEMORY if roomy and not found.f_flag & os.ST_NOEXEC else None


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """A server that keeps nothing; its role may create databases."""
    with data_place() as place:
        directory = DataDirectory(place)
        with directory.held():
            server = Postgres(directory, durable=False)
            with running(server.service):
                asyncio.run(_execute(server.superuser_url, "ALTER ROLE chitram CREATEDB"))
                yield server


@pytest.fixture(scope="session")
def postgres_url(postgres_server: Postgres) -> str:
    """URL of a database on that server."""
    return postgres_server.url


@pytest.fixture(scope="session")
def valkey_url() -> Iterator[str]:
    """URL of a Valkey server, of which database 0 is shared by all tests."""
    with data_place() as place:
        directory = DataDirectory(place)
        with directory.held():
            valkey = Valkey(directory)
            with running(valkey.service):
                yield valkey.url


@dataclass
class OwnValkey:
    """A Valkey server that may be killed; it keeps its address, and nothing else."""

    valkey: Valkey
    process: Process

    @property
    def url(self) -> str:
        return self.valkey.url

    def kill(self) -> None:
        self.process.stop()

    async def restart(self) -> None:
        """Start it again. Only the waiting may go to a thread, with which a child would end."""
        self.process = self.valkey.service.spawn()
        await asyncio.to_thread(await_ready, self.valkey.service, self.process)


@contextmanager
def own_valkey() -> Iterator[OwnValkey]:
    """Run a Valkey server for one test alone."""
    with data_place() as place:
        directory = DataDirectory(place)
        with directory.held():
            valkey = Valkey(directory)
            server = OwnValkey(valkey, valkey.service.spawn())
            try:
                await_ready(valkey.service, server.process)
                yield server
            finally:
                server.kill()


async def new_database(postgres_url: str, template: str | None = None) -> str:
    """Create a database and return its URL.

    Args:
        postgres_url: any database of the server.
        template: URL or name of a database to copy, to which nobody may be connected meanwhile.
    """
    name = f"test_{uuid.uuid4().hex}"
    copied = (template or "template1").rpartition("/")[2]
    await _execute(postgres_url, f'CREATE DATABASE "{name}" TEMPLATE "{copied}"')
    return f"{postgres_url.rpartition('/')[0]}/{name}"


async def drop_database(url: str) -> None:
    """Remove a database made by `new_database`, ending the connections to it.

    Not `WITH (FORCE)`, which is refused to all but superusers while the server vacuums the database
    by itself; without it that is ended, and connections have 5 s to end.
    """
    server, _, name = url.rpartition("/")
    own = f"datname = '{name}' AND usename = current_user"
    ended = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {own}"  # noqa: S608 - ours
    await _execute(f"{server}/chitram", ended)
    await _execute(f"{server}/chitram", f'DROP DATABASE IF EXISTS "{name}"')


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()

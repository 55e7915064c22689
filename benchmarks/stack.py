"""Chitram as `just up` runs it, on servers of its own, for lines to measure.

    async with running_stack() as stack:            # PostgreSQL, Valkey, an API of 2 processes
    async with running_stack(workers=1) as stack:   # and a worker
    async with running_stack(nginx=True) as stack:  # files through nginx, at stack.url
    async with running_stack({"UPLOAD_CONCURRENCY": 8}) as stack:

    body = await stack.api.uploaded(content)        # stack.api is an Api of tests/support/api.py
    async with stack.worker() as worker:            # a worker for a while
    async with watching(stack.roots()) as usage:    # CPU and memory, benchmarks/processes.py

All of it is as by default, fsync and access log too (the log goes to a file, as from `just up`),
but that rate limits are off. Nothing is left behind when the block ends, however it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from chitram.main.up import connections_of
from chitram.platform.embedded.directory import DataDirectory
from chitram.platform.embedded.errors import StartError
from chitram.platform.embedded.postgres import Postgres, ignore_client_variables
from chitram.platform.embedded.process import Process
from chitram.platform.embedded.service import Service, await_ready
from chitram.platform.embedded.valkey import Valkey
from chitram.platform.migrations import upgrade
from chitram.platform.objects.local import LocalStore
from chitram.platform.settings import PREFIX, Settings
from tests.support.api import Api, running_api
from tests.support.nginx import nginx_before
from tests.support.workers import WorkerProcess, running_worker

API = ("chitram.main.cli", "api")
WORKER = ("chitram.main.cli", "worker")
_PROCESSES = 2
_ACCEL = {"FILE_DELIVERY": "accel", "TRUSTED_PROXIES": "127.0.0.1"}


@dataclass
class Servers:
    """PostgreSQL, migrated, and Valkey, both empty.

    Attributes:
        data_dir: of the instance; everything is below it.
        pids: of both.
    """

    database_url: str
    valkey_url: str
    data_dir: Path
    pids: tuple[int, int]


@dataclass
class Stack:
    """What runs.

    Attributes:
        url: where clients ask: the API, or nginx before it.
        settings: of all of it, named without prefix.
    """

    servers: Servers
    api: Api
    url: str
    settings: Mapping[str, object]
    _pids: set[int] = field(default_factory=set)

    @property
    def objects(self) -> Path:
        """Folder of the store."""
        return self.servers.data_dir / "objects"

    @property
    def store(self) -> LocalStore:
        """The store, to put into by hand; to be closed by the caller."""
        return LocalStore("local", self.objects)

    def roots(self) -> set[int]:
        """Ids of all that was started; what they have started themselves is below these."""
        return self._pids

    @contextlib.asynccontextmanager
    async def worker(self) -> AsyncIterator[WorkerProcess]:
        """Run a worker of the same instance."""
        async with running_worker(
            self.servers.database_url,
            self.servers.valkey_url,
            {f"{PREFIX}{name}": str(value) for name, value in self.settings.items()},
            program=WORKER,
            data_dir=self.servers.data_dir,
        ) as worker:
            self._pids.add(worker.pid)
            try:
                yield worker
            finally:
                self._pids.discard(worker.pid)


@contextlib.asynccontextmanager
async def running_stack(
    settings: Mapping[str, object] | None = None,
    *,
    workers: int = 0,
    nginx: bool = False,
    program: Sequence[str] = API,
) -> AsyncIterator[Stack]:
    """Run an API over servers of its own.

    Args:
        settings: in the place of defaults, named without prefix.
        workers: how many run beside it.
        nginx: whether an nginx with the shipped configuration sends the files.
        program: module that runs the API, and its arguments.
    """
    given = {"HTTP_WORKERS": _PROCESSES, **(_ACCEL if nginx else {}), **(settings or {})}
    async with contextlib.AsyncExitStack() as exits:
        servers = await exits.enter_async_context(running_servers())
        api = await exits.enter_async_context(
            running_api(servers.database_url, servers.valkey_url, servers.data_dir, given, program)
        )
        stack = Stack(servers, api, api.url, given, {*servers.pids, api.process.pid})
        if nginx:
            before = exits.enter_context(
                nginx_before("{}:{}".format(*api.host), stack.objects, processes=_PROCESSES)
            )
            stack.url = before.url
            stack.roots().add(before.pid)
        for _ in range(workers):
            await exits.enter_async_context(stack.worker())
        yield stack


@contextlib.asynccontextmanager
async def running_servers() -> AsyncIterator[Servers]:
    """Run PostgreSQL and Valkey as `just up` does, in a directory that is removed in the end."""
    place = Path(tempfile.mkdtemp(prefix="chitram-bench-"))
    try:
        directory = DataDirectory(place)
        ignore_client_variables()
        with directory.held():
            postgres = Postgres(directory, connections=connections_of(Settings(http_workers=_PROCESSES)))
            valkey = Valkey(directory)
            async with _running(postgres.service) as database, _running(valkey.service) as cache:
                await asyncio.to_thread(upgrade, postgres.url)
                yield Servers(postgres.url, valkey.url, place, (database.pid, cache.pid))
    finally:
        shutil.rmtree(place)


@contextlib.asynccontextmanager
async def _running(service: Service) -> AsyncIterator[Process]:
    """Run a server; its probes use a loop of their own, and so a thread."""
    process = service.spawn()
    given_up = threading.Event()

    def check() -> None:
        if given_up.is_set():
            raise StartError(f"{service.name} is not wanted any more.")

    ready = asyncio.ensure_future(asyncio.to_thread(await_ready, service, process, check))
    try:
        await asyncio.shield(ready)
        yield process
    finally:
        # The thread looks at the process, which therefore ends after it.
        given_up.set()
        await asyncio.gather(ready, return_exceptions=True)
        process.stop(service.stop)

"""Worker processes whose jobs do what a test tells them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from uuid import UUID

from chitram.platform.embedded.process import die_with_parent
from chitram.platform.queue import QueueName
from chitram.platform.settings import PREFIX
from tests.support.api import SECRET_KEY, make_data_dir
from tests.support.database import Database
from tests.support.obedient_worker import KIND_PREFIX

STOP_SECONDS = 40
# Far more than anything takes here, also when a worker has died.
WAIT_SECONDS = 30


@dataclass
class Begun:
    """A job that a worker is at, and that waits for a word."""

    pid: int
    entry_id: UUID
    queue: QueueName
    _writer: asyncio.StreamWriter

    async def tell(self, word: str) -> None:
        """`finish`, or anything else to fail with."""
        self._writer.write(f"{word}\n".encode())
        with contextlib.suppress(OSError):
            await self._writer.drain()


@dataclass
class Jobs:
    """Jobs of all workers, as they begin."""

    database: Database
    socket: Path
    begun: asyncio.Queue[Begun] = field(default_factory=asyncio.Queue)
    seen: list[Begun] = field(default_factory=list)
    _finishes_all: bool = False

    async def add(self, queue: QueueName, count: int = 1) -> list[UUID]:
        """Owe so much work; nobody is told but the sweep."""
        async with self.database.transactions.begin() as transaction:
            ids = [await transaction.outbox.add(KIND_PREFIX + queue, {}) for _ in range(count)]
            await transaction.commit()
        return ids

    async def next(self) -> Begun:
        """The next job that a worker begins."""
        async with asyncio.timeout(WAIT_SECONDS):
            return await self.begun.get()

    async def finish_all(self) -> None:
        """Let everything finish, from now on and what waits for a word."""
        self._finishes_all = True
        for begun in self.seen:
            await begun.tell("finish")

    async def left(self) -> int:
        """How much is owed."""
        async with self.database.reader.connection() as connection:
            count: int = await connection.fetchval("SELECT count(*) FROM outbox")
        return count

    async def all_done(self) -> None:
        """Wait until nothing is owed."""
        async with asyncio.timeout(WAIT_SECONDS):
            while await self.left():
                await asyncio.sleep(0.05)

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pid, entry_id, queue = (await reader.readline()).decode().split()
        begun = Begun(int(pid), UUID(entry_id), QueueName(queue), writer)
        self.begun.put_nowait(begun)
        self.seen.append(begun)
        if self._finishes_all:
            await begun.tell("finish")
        with contextlib.suppress(OSError):
            await reader.read()
        writer.close()


@contextlib.asynccontextmanager
async def jobs_of(database: Database) -> AsyncIterator[Jobs]:
    """Listen to the jobs over one database."""
    folder = make_data_dir()
    jobs = Jobs(database, folder / "jobs")
    server = await asyncio.start_unix_server(jobs.accept, jobs.socket)
    try:
        yield jobs
    finally:
        server.close()
        shutil.rmtree(folder)


@dataclass
class WorkerProcess:
    """A worker that runs."""

    process: asyncio.subprocess.Process
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    async def kill(self) -> None:
        self.process.kill()
        await self.process.wait()

    async def ended(self) -> int:
        async with asyncio.timeout(STOP_SECONDS):
            return await self.process.wait()


@contextlib.asynccontextmanager
async def running_worker(
    database_url: str,
    valkey_url: str,
    environment: dict[str, str] | None = None,
    *,
    program: Collection[str] = ("tests.support.obedient_worker",),
    data_dir: Path | None = None,
) -> AsyncIterator[WorkerProcess]:
    """Run a worker until the block ends, unless it has ended before.

    Args:
        database_url: of its database.
        valkey_url: of its Valkey.
        environment: more variables.
        program: module to run, and its arguments.
        data_dir: where the images are; None makes one for the block.
    """
    own_dir = make_data_dir()
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    settings = {
        "DATABASE_URL": database_url,
        "VALKEY_URL": valkey_url,
        "DATA_DIR": str(data_dir or own_dir),
        "SECRET_KEYS": SECRET_KEY,
    }
    given = {f"{PREFIX}{name}": value for name, value in settings.items()} | (environment or {})
    log = own_dir / "worker.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", *program),
            env=inherited | given,
            stdout=output,
            stderr=output,
            preexec_fn=partial(die_with_parent, os.getpid()),
        )
    worker = WorkerProcess(process, log)
    try:
        yield worker
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            assert await worker.ended() == 0, log.read_text()
    finally:
        if process.returncode is None:
            await worker.kill()
        shutil.rmtree(own_dir)

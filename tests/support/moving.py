"""Moving the images of a running API from its folder to a bucket, under reads, with a kill half-way."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg

from chitram.platform.settings import PREFIX
from tests.support.api import Api

_COMMAND_SECONDS = 300


@dataclass
class Readers:
    """Clients that read files, any of them, all the time.

    Attributes:
        read: how many files were whole and right.
        failed: what went wrong instead.
        slowest: seconds.
    """

    api: Api
    images: Mapping[str, str]
    read: int = 0
    failed: list[str] = field(default_factory=list)
    slowest: float = 0.0

    @contextlib.asynccontextmanager
    async def reading(self, count: int) -> AsyncIterator[None]:
        """Let `count` of them read for the length of the block."""
        ended = asyncio.Event()
        readers = [asyncio.create_task(self._read(random.Random(seed), ended)) for seed in range(count)]  # noqa: S311 - any order does
        try:
            yield
        finally:
            ended.set()
            await asyncio.gather(*readers)

    async def read_all(self) -> None:
        """Read every image once."""
        for url, checksum in self.images.items():
            await self._read_one(url, checksum)

    async def _read(self, order: random.Random, ended: asyncio.Event) -> None:
        urls = list(self.images)
        while not ended.is_set():
            url = order.choice(urls)
            await self._read_one(url, self.images[url])

    async def _read_one(self, url: str, checksum: str) -> None:
        began = time.monotonic()
        try:
            answer = await self.api.client.get(url)
        except OSError as error:
            self.failed.append(repr(error))
            return
        self.slowest = max(self.slowest, time.monotonic() - began)
        if answer.status_code == 200 and hashlib.sha256(answer.content).hexdigest() == checksum:
            self.read += 1
        else:
            self.failed.append(f"{answer.status_code} {answer.text[:200]}")


@dataclass
class Mover:
    """Runs `chitram admin` against the database and the data directory of an API."""

    api: Api
    storage_urls: str

    async def run(self, *arguments: str) -> tuple[int, str]:
        """Run a command to its end: its status and what it said."""
        process = await self._start(*arguments)
        async with asyncio.timeout(_COMMAND_SECONDS):
            said, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, said.decode()

    async def kill_when_moved(self, count: int, *arguments: str) -> int:
        """Run a command and kill it once `count` rows name the bucket; how many did then."""
        process = await self._start(*arguments)
        try:
            async with asyncio.timeout(_COMMAND_SECONDS):
                while process.returncode is None and await self.placed("bucket") < count:
                    await asyncio.sleep(0.01)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL)
            await process.communicate()
        assert process.returncode == -signal.SIGKILL
        return await self.placed("bucket")

    async def placed(self, shard: str) -> int:
        """How many rows name a store."""
        connection = await asyncpg.connect(self.api.database_url)
        try:
            count: int = await connection.fetchval("SELECT count(*) FROM blobs WHERE shard = $1", shard)
        finally:
            await connection.close()
        return count

    async def _start(self, *arguments: str) -> asyncio.subprocess.Process:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        environment |= {
            f"{PREFIX}DATABASE_URL": self.api.database_url,
            f"{PREFIX}DATA_DIR": str(self.api.data_dir),
            f"{PREFIX}STORAGE_URLS": self.storage_urls,
        }
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "chitram.main.cli", "admin", *arguments),
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )


def files_below(root: Path) -> list[Path]:
    """Every file of a directory and those in it."""
    return [path for path in root.rglob("*") if path.is_file()]

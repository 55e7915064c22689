"""The real API process, on real servers, for tests to talk to over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import psutil

from chitram.platform.embedded.ports import ReservedPort
from chitram.platform.embedded.process import die_with_parent
from chitram.platform.objects.s3 import Bucket, connect
from chitram.platform.settings import PREFIX

READY_SECONDS = 30
STOP_SECONDS = 30
UPLOAD = "/api/v1/images/upload"
SECRET_KEY = "a-key-that-only-tests-ever-sign-with"


@dataclass
class Api:
    """A running API and what it keeps its data in."""

    url: str
    database_url: str
    data_dir: Path
    process: asyncio.subprocess.Process
    client: httpx.AsyncClient
    bucket: Bucket | None = None

    @property
    def host(self) -> tuple[str, int]:
        parsed = httpx.URL(self.url)
        assert parsed.port is not None
        return parsed.host, parsed.port

    async def upload(
        self, content: bytes, filename: str = "photo.jpg", content_type: str | None = None, **fields: str
    ) -> httpx.Response:
        """Upload by multipart. The type of the part is left out unless it is given."""
        part = (filename, content, content_type) if content_type else (filename, content)
        return await self.client.post(UPLOAD, files={"file": part}, data=fields)

    async def uploaded(self, content: bytes, filename: str = "photo.jpg", **fields: str) -> dict[str, Any]:
        """Upload what must be accepted, and return the body of the answer."""
        answer = await self.upload(content, filename, **fields)
        assert answer.status_code == 201, answer.text
        body: dict[str, Any] = answer.json()
        return body

    def objects(self) -> list[str]:
        """Every object in the store; of local files the unfinished ones too."""
        if self.bucket:
            return [found["path"] for page in connect(self.bucket, 4, {}).list() for found in page]
        root = self.data_dir / "objects"
        return [str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()]

    async def rows(self, table: str) -> int:
        """How many rows a table has."""
        connection = await asyncpg.connect(self.database_url)
        try:
            count: int = await connection.fetchval(f"SELECT count(*) FROM {table}")  # noqa: S608 - ours
            return count
        finally:
            await connection.close()

    async def kept(self) -> tuple[int, int, int]:
        """How many objects, blobs and images there are."""
        return len(self.objects()), await self.rows("blobs"), await self.rows("images")

    def memory(self) -> int:
        """Memory of the API's own processes in bytes, decoders apart: the sum of their PSS."""
        return sum(pss(process) for process in self.processes())

    def processes(self) -> list[psutil.Process]:
        """The server and its workers, without decoders."""
        server = psutil.Process(self.process.pid)
        return [server, *(child for child in server.children() if "decoder" not in " ".join(child.cmdline()))]


def pss(process: psutil.Process) -> int:
    """Proportional set size in bytes."""
    return int(process.memory_full_info().pss)


@contextlib.asynccontextmanager
async def running_api(
    database_url: str,
    valkey_url: str,
    data_dir: Path,
    settings: Mapping[str, object] | None = None,
    program: Sequence[str] = ("chitram.main.cli", "api"),
) -> AsyncIterator[Api]:
    """Run `chitram api`, or another module with arguments that does as it does.

    Stops it, and asserts that it stopped by itself, when the block ends.
    """
    reserved = ReservedPort()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    given = {
        "HTTP_PORT": reserved.number,
        "DATABASE_URL": database_url,
        "VALKEY_URL": valkey_url,
        "DATA_DIR": data_dir,
        "SECRET_KEYS": SECRET_KEY,
        # Tests do more in a minute than one client may.
        "UPLOADS_PER_MINUTE": 0,
        "LOGINS_PER_MINUTE": 0,
        **(settings or {}),
    }
    environment |= {f"{PREFIX}{name}": str(value) for name, value in given.items()}
    log = data_dir / "api.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", *program),
            env=environment,
            stdout=output,
            stderr=output,
            preexec_fn=partial(die_with_parent, os.getpid()),
        )
    url = f"http://127.0.0.1:{reserved.number}"
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        try:
            await _ready(process, client, log)
            yield Api(url, database_url, data_dir, process, client)
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(STOP_SECONDS):
                    status = await process.wait()
            except TimeoutError:
                process.kill()
                status = await process.wait()
            assert status in {0, -signal.SIGKILL}, log.read_text()


async def _ready(process: asyncio.subprocess.Process, client: httpx.AsyncClient, log: Path) -> None:
    async with asyncio.timeout(READY_SECONDS):
        while process.returncode is None:
            with contextlib.suppress(httpx.TransportError):
                if (await client.get("/health/live")).status_code == 200:
                    return
            await asyncio.sleep(0.05)
    raise AssertionError(log.read_text())


def log_of(api: Api) -> str:
    """Everything that the API has logged."""
    return (api.data_dir / "api.log").read_text()


def image_id(body: Mapping[str, Any]) -> UUID:
    """Id of an upload's answer."""
    return UUID(body["id"])


def make_data_dir() -> Path:
    """A new directory that any user may reach, for the caller to remove."""
    path = Path(tempfile.mkdtemp(prefix="chitram-api-"))
    path.chmod(0o755)
    return path

"""`chitram up` as a user runs it, and what it starts."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil

from chitram.platform.settings import PREFIX

READY = re.compile(rb"Chitram is ready at (http://\S+)")
READY_SECONDS = 60
STOP_SECONDS = 60


@dataclass
class Site:
    """A data directory on which the stack is run, killed and run again."""

    data_dir: Path
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        given = {"DATA_DIR": str(self.data_dir), "HTTP_PORT": "0", "UPLOADS_PER_MINUTE": "0", **self.settings}
        return inherited | {f"{PREFIX}{name}": value for name, value in given.items()}

    async def run(self, *arguments: str) -> tuple[int, str]:
        """Run a command to its end; returns its status and what it printed."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "chitram.main.cli",
            *arguments,
            env=self.environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, output.decode()

    def objects(self) -> set[str]:
        """Names of all files in the object store."""
        return {path.name for path in (self.data_dir / "objects").rglob("*") if path.is_file()}


@dataclass
class Up:
    """A running stack."""

    process: asyncio.subprocess.Process
    url: str
    client: httpx.AsyncClient

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def find(self, name: str) -> psutil.Process:
        """The process of a server: `postgres`, `valkey-server`, `api`, `worker`."""
        for child in psutil.Process(self.process.pid).children():
            command = child.cmdline()
            if command[-1] == name or Path(command[0]).name == name:
                return child
        raise LookupError(name)


@contextlib.asynccontextmanager
async def running_up(site: Site) -> AsyncIterator[Up]:
    """Run `chitram up` until the block ends, and see to it that nothing is left of it then."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "chitram.main.cli",
        "up",
        # Not measured: its parts are, by their own tests, and it would start half as fast.
        env={name: value for name, value in site.environment.items() if not name.startswith("COVERAGE")},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output = bytearray()
    url = await _ready(process, output)
    reading = asyncio.create_task(_drain(process, output))
    family = psutil.Process(process.pid).children(recursive=True)
    try:
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:
            yield Up(process, url, client)
    finally:
        if process.returncode is None:
            with contextlib.suppress(psutil.NoSuchProcess):
                family += psutil.Process(process.pid).children(recursive=True)
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(STOP_SECONDS):
            status = await process.wait()
        await reading
        _, alive = await asyncio.to_thread(psutil.wait_procs, family, 10)
        assert not alive, alive
        assert status in {0, -signal.SIGKILL}, output.decode()


async def _ready(process: asyncio.subprocess.Process, output: bytearray) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(READY_SECONDS):
        while line := await process.stdout.readline():
            output += line
            if found := READY.search(line):
                return found[1].decode()
    raise AssertionError(output.decode())


async def _drain(process: asyncio.subprocess.Process, output: bytearray) -> None:
    assert process.stdout is not None
    while chunk := await process.stdout.read(65536):
        output += chunk


@contextlib.contextmanager
def new_site(**settings: str) -> Iterator[Site]:
    """Make a data directory that also an unprivileged PostgreSQL can reach."""
    path = Path(tempfile.mkdtemp(prefix="chitram-up-"))
    path.chmod(0o755)
    try:
        yield Site(path / "data", settings)
    finally:
        shutil.rmtree(path, ignore_errors=True)

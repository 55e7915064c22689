"""thumbor, in an environment of its own: what it asks for does not go with what Chitram asks for."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import secrets
import sys
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path

from benchmarks.load.wrk import asking
from benchmarks.model import Run, Sample
from chitram.platform.embedded.ports import ReservedPort
from chitram.platform.embedded.process import die_with_parent

ROOT = Path(__file__).parents[2]
PROCESSES = 2
_CONNECTIONS = 8
_SIDE = 300
# A thumbnail of these sides has far more; an error has less.
_LEAST_BYTES = 5000
_PINS = ROOT / "config" / "requirements" / "thumbor.txt"
_PLACE = ROOT / ".bench" / "thumbor"
_READY_SECONDS = 20.0
# Nothing is kept, so every request decodes, resizes and encodes.
_CONFIGURATION = """
LOADER = "thumbor.loaders.file_loader"
FILE_LOADER_ROOT_PATH = {folder!r}
STORAGE = "thumbor.storages.no_storage"
RESULT_STORAGE = None
ALLOW_UNSAFE_URL = True
SECURITY_KEY = {key!r}
"""


@contextlib.asynccontextmanager
async def running(originals: Sequence[Path]) -> AsyncIterator[Run]:
    """Run thumbor over a folder of originals; gives what asks for thumbnails of them at random.

    Two instances of one process each, both kept busy: of two processes of one instance, the first to
    wake takes all connections of a few. Raises `RuntimeError` when it cannot be installed.
    """
    program = await _installed()
    folder = originals[0].parent
    paths = folder.parent / "thumbor.txt"
    paths.write_text("".join(f"/unsafe/fit-in/{_SIDE}x{_SIDE}/{each.name}\n" for each in originals))
    configuration = folder.parent / "thumbor.conf"
    configuration.write_text(_CONFIGURATION.format(folder=str(folder), key=secrets.token_hex()))
    async with contextlib.AsyncExitStack() as stack:
        sides = [
            await stack.enter_async_context(_instance(program, configuration, paths))
            for _ in range(PROCESSES)
        ]

        async def run(seconds: float) -> Sample:
            return _together(await asyncio.gather(*(side(seconds) for side in sides)))

        yield run


@contextlib.asynccontextmanager
async def _instance(program: Path, configuration: Path, paths: Path) -> AsyncIterator[Run]:
    reserved = ReservedPort()
    port = reserved.number
    process = await asyncio.create_subprocess_exec(
        str(program),
        *("--ip", "127.0.0.1", "--port", str(port), "--conf", str(configuration), "--log-level", "error"),
        preexec_fn=partial(die_with_parent, os.getpid()),
    )
    try:
        await _answering(port, process)
        yield asking(
            f"http://127.0.0.1:{port}",
            [process.pid],
            least_bytes=_LEAST_BYTES,
            connections=_CONNECTIONS // PROCESSES,
            paths=paths,
        )
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _together(samples: Sequence[Sample]) -> Sample:
    rate = sum(each.rate for each in samples)
    return Sample(
        rate=rate,
        p95_ms=max(each.p95_ms or 0.0 for each in samples),
        errors=sum(each.errors for each in samples),
        cpu_ms=sum((each.cpu_ms or 0.0) * each.rate for each in samples) / rate if rate else None,
        peak_mib=sum(each.peak_mib or 0.0 for each in samples),
        load_cores=sum(each.load_cores or 0.0 for each in samples),
    )


async def _answering(port: int, process: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(_READY_SECONDS):
        while process.returncode is None:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            await asyncio.sleep(0.05)
    raise RuntimeError(f"thumbor ended with status {process.returncode}")


async def _installed() -> Path:
    """The program, installed from its hashed pins unless it is there already."""
    wanted = hashlib.sha256(f"{sys.version_info[:2]}".encode() + _PINS.read_bytes()).hexdigest()
    stamp = _PLACE / ".installed"
    if not (stamp.exists() and stamp.read_text() == wanted):
        uv = str(Path(sys.executable).with_name("uv"))
        await _done(uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(_PLACE))
        await _done(
            uv, "pip", "install", "--quiet", "--python", str(_PLACE), "--require-hashes", "-r", str(_PINS)
        )
        stamp.write_text(wanted)
    return _PLACE / "bin" / "thumbor"


async def _done(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    _, complaint = await process.communicate()
    if process.returncode:
        said = complaint.decode(errors="replace").strip().splitlines()
        raise RuntimeError(f"thumbor cannot be installed: {said[-1] if said else process.returncode}")

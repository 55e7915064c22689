"""The least that Litestar does on the server that carries Chitram: bytes from memory or from Valkey.

As a program, with the settings of `chitram api`: `python -m benchmarks.peers.bare`. It answers `/json`
with what the file named by BENCH_BODY holds, `/bytes/COUNT` with so many bytes, for the counts of
`SIZES`, and `/valkey/KEY` with what Valkey holds.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from litestar import Litestar, MediaType, get
from litestar.handlers import HTTPRouteHandler
from litestar.types import ASGIApp
from valkey.asyncio import Valkey

from chitram.main.api import serve
from chitram.platform.embedded.ports import ReservedPort
from chitram.platform.embedded.process import StopStep, die_with_parent, start
from chitram.platform.embedded.service import wait_ready
from chitram.platform.settings import PREFIX, load_settings

SIZES = (20_000, 200_000)
_BODY = "BENCH_BODY"
_READY_SECONDS = 20
_STOP = (StopStep(signal.SIGTERM, 10),)


@dataclass(frozen=True)
class Bare:
    """A bare application that runs: its address, and the id of the process above the others."""

    url: str
    pid: int


@contextlib.contextmanager
def running_bare(place: Path, body: bytes, valkey_url: str, processes: int = 2) -> Iterator[Bare]:
    """Run it.

    Args:
        place: an existing directory for its files.
        body: what `/json` answers.
        valkey_url: of the server that `/valkey` asks.
        processes: how many serve.
    """
    file, reserved = place / "bare.json", ReservedPort()
    port = reserved.number
    file.write_bytes(body)
    settings = {"HTTP_PORT": port, "HTTP_WORKERS": processes, "VALKEY_URL": valkey_url}
    environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    environment |= {f"{PREFIX}{name}": str(value) for name, value in settings.items()}
    process = start(
        "bare Litestar",
        [sys.executable, "-m", "benchmarks.peers.bare"],
        environment=environment | {_BODY: str(file)},
        log=place / "bare.log",
        death_signal=signal.SIGTERM,
    )
    try:
        wait_ready(process, lambda: _answers(port), _READY_SECONDS)
        yield Bare(f"http://127.0.0.1:{port}", process.pid)
    finally:
        process.stop(_STOP)


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/json")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def app() -> ASGIApp:
    """Make the application of one server process."""
    die_with_parent()
    body = Path(os.environ[_BODY]).read_bytes()
    client: Valkey = Valkey.from_url(load_settings().valkey_url)

    @get("/json", media_type=MediaType.JSON)
    async def json() -> bytes:
        return body

    @get("/valkey/{key:str}", media_type=MediaType.JSON)
    async def passed_through(key: str) -> bytes:
        found: bytes = await client.get(key)
        return found

    return Litestar(
        [json, passed_through, *(_bytes(size) for size in SIZES)], openapi_config=None, logging_config=None
    )


def _bytes(size: int) -> HTTPRouteHandler:
    content = os.urandom(size)

    @get(f"/bytes/{size}", media_type="image/jpeg")
    async def some_bytes() -> bytes:
        return content

    return some_bytes


if __name__ == "__main__":
    serve(load_settings(), f"{__spec__.name}:app")

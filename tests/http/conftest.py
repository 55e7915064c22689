from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from chitram.platform.embedded.ports import ReservedPort
from tests.http.wire import Server

# How long an example takes says more of the machine than of the code.
settings.register_profile("chitram", deadline=None)
settings.load_profile("chitram")

_REPOSITORY = Path(__file__).parents[2]
_START_SECONDS = 20


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The application of `wire_app` under granian, as one process of its own."""
    directory = tmp_path_factory.mktemp("wire")
    reserved = ReservedPort()
    port = reserved.number
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "granian", "--interface", "asgi", "--no-ws", "--loop", "uvloop"),
            *("--host", "127.0.0.1", "--port", str(port), "tests.http.wire_app:app"),
        ],
        cwd=_REPOSITORY,
        env={**os.environ, "WIRE_DIRECTORY": str(directory)},
        stdout=subprocess.DEVNULL,
    )
    try:
        wait_until_it_answers(process, port)
        yield Server(port, directory)
    finally:
        process.terminate()
        process.wait(_START_SECONDS)


def wait_until_it_answers(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            assert process.poll() is None, "the server ended"
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(0.02)
        else:
            return

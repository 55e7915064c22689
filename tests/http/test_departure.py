"""A client that leaves is noticed although nobody reads."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from chitram.platform.http.departure import departure_watched

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture(params=["127.0.0.1", "::"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """The two ends of a connection from 127.0.0.1: the client's, and the server's."""
    family = socket.AF_INET6 if request.param == "::" else socket.AF_INET
    with socket.create_server(
        (request.param, 0), family=family, dualstack_ipv6=family == socket.AF_INET6
    ) as server:
        client = socket.create_connection(("127.0.0.1", server.getsockname()[1]))
        accepted, _ = server.accept()
    with client, accepted:
        yield client, accepted


@pytest.mark.parametrize("how", ["close", "half_close"])
async def test_a_client_that_leaves_behind_unread_bytes_is_noticed_once(pair: Pair, how: str) -> None:
    client, _ = pair
    departures: list[str] = []
    noticed = asyncio.Event()

    def departed() -> None:
        departures.append(how)
        noticed.set()

    with departure_watched(client.getsockname(), departed):
        client.sendall(bytes(1000))
        await asyncio.sleep(0.01)
        assert not departures
        if how == "close":
            client.close()
        else:
            client.shutdown(socket.SHUT_WR)
        async with asyncio.timeout(5):
            await noticed.wait()
        await asyncio.sleep(0.01)
    assert departures == [how]


async def test_nothing_is_left_open_and_the_connection_goes_on(pair: Pair) -> None:
    client, accepted = pair
    before = len(list(Path("/proc/self/fd").iterdir()))
    with departure_watched(client.getsockname(), lambda: pytest.fail("it is still there")):
        await asyncio.sleep(0)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    client.sendall(b"x")
    assert accepted.recv(1) == b"x"


@pytest.mark.parametrize("client", [None, ("192.0.2.1", 0)])
async def test_who_is_not_at_the_other_end_is_not_watched(client: tuple[str, int] | None) -> None:
    with departure_watched(client, lambda: pytest.fail("who left?")):
        await asyncio.sleep(0)


@contextlib.contextmanager
def no_descriptor_left() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(each.name) for each in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 8, hard))
    with contextlib.ExitStack() as taken:
        taken.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        with contextlib.suppress(OSError):
            while True:
                taken.callback(os.close, os.open("/dev/null", os.O_RDONLY))
        yield


async def test_who_cannot_be_watched_is_not_refused(pair: Pair) -> None:
    with (
        no_descriptor_left(),
        departure_watched(pair[0].getsockname(), lambda: pytest.fail("it is still there")),
    ):
        await asyncio.sleep(0)

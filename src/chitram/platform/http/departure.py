"""Noticing that a client leaves while nothing is read from its connection."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import socket
import stat
from collections.abc import Callable, Iterator
from typing import Any

from chitram.platform.networks import parse_address

_INTERNET = (socket.AF_INET, socket.AF_INET6)


@contextlib.contextmanager
def departure_watched(client: tuple[str, int] | None, on_departure: Callable[[], None]) -> Iterator[None]:
    """Call `on_departure` when a client closes its connection, or its half of it, inside the block.

    The server tells that only to whoever reads the body, so the kernel is asked. A client that is
    not the other end of a connection of this process, as behind a proxy, is not watched.
    """
    with contextlib.ExitStack() as opened:
        events = None
        # Without a descriptor left nobody is watched, and nobody refused for that.
        with contextlib.suppress(OSError):
            events = _departure_of(client, opened) if client else None
        if events is None:
            yield
            return
        loop = asyncio.get_running_loop()
        descriptor = events.fileno()

        def departed() -> None:
            loop.remove_reader(descriptor)
            on_departure()

        loop.add_reader(descriptor, departed)
        try:
            yield
        finally:
            loop.remove_reader(descriptor)


def _departure_of(client: tuple[str, int], opened: contextlib.ExitStack) -> select.epoll | None:
    """What is readable once the client has left; None when it is not found. Raises `OSError`."""
    connection = _connection_of(client)
    if connection is None:
        return None
    opened.enter_context(connection)
    events = opened.enter_context(select.epoll())
    events.register(connection, select.EPOLLRDHUP)
    return events


def _connection_of(client: tuple[str, int]) -> socket.socket | None:
    """Find the connection to an address among this process's descriptors, and duplicate it."""
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - a fifth of the time that Path takes
        with contextlib.suppress(OSError), contextlib.ExitStack() as on_other:
            if not stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                continue
            found = on_other.enter_context(socket.socket(fileno=os.dup(int(name))))
            peer = found.getpeername() if found.family in _INTERNET else None
            if peer and _is_same(peer, client):
                on_other.pop_all()
                return found
    return None


def _is_same(peer: tuple[Any, ...], client: tuple[str, int]) -> bool:
    """Whether a socket's name for its other end, which may be IPv4 mapped to IPv6, is this address."""
    host = peer[0].partition("%")[0]
    # The server says the port as text.
    return str(peer[1]) == str(client[1]) and parse_address(host) == parse_address(client[0])

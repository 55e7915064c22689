"""Choosing TCP ports."""

from __future__ import annotations

import random
import socket

# Below the range that Linux gives to outgoing connections (32768 to 60999 by default): none of
# those can take the port while a server on it is being restarted.
_PORTS = range(20_000, 32_000)
_TRIES = 100


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port of `host` that nothing listens on now. Raises `OSError` when none is found."""
    for port in random.sample(_PORTS, _TRIES):
        try:
            check_free(host, port)
        except OSError:
            continue
        return port
    raise OSError(f"no free port on {host}")


def check_free(host: str, port: int) -> None:
    """Raise `OSError` when a server could not listen on `port` of `host`."""
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    with socket.socket(family, kind, protocol) as candidate:
        # As servers do: connections of an earlier run that linger are no obstacle.
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        candidate.bind(address)
        candidate.listen()

"""Choosing TCP ports."""

from __future__ import annotations

import errno
import secrets
import socket
import weakref

# Below the range that Linux gives to outgoing connections (32768 to 60999 by default).
_PORTS = range(20_000, 32_000)
_TRIES = 100
# Of the kernel: a generator that a test or a library has seeded would give everyone the same.
_random = secrets.SystemRandom()


class ReservedPort:
    """A port of a host that is kept free for one server, from before it starts and also while it is down.

    It is bound, but does not listen: Linux lets a server that sets SO_REUSEADDR, as servers do,
    listen on it, and nobody who looks for a free port take it. Freed when the object is.

    Args:
        host: address or name of this machine.

    Raises:
        OSError: nothing can listen on this host, or no free port was found.
    """

    def __init__(self, host: str = "127.0.0.1") -> None:
        self._socket = _bound(host)
        weakref.finalize(self, self._socket.close)
        self.number: int = self._socket.getsockname()[1]


def _bound(host: str) -> socket.socket:
    """A socket bound to a port that nobody else has bound."""
    for port in _random.sample(_PORTS, _TRIES):
        try:
            found = _bind(host, port, reuse=False)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            continue
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return found
    raise OSError(errno.EADDRINUSE, f"{_TRIES} ports tried on {host} are all in use")


def check_free(host: str, port: int) -> None:
    """Raise `OSError` when a server could not listen on `port` of `host`."""
    # Connections of an earlier run that linger are no obstacle to a server.
    with _bind(host, port, reuse=True) as candidate:
        candidate.listen()


def _bind(host: str, port: int, *, reuse: bool) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    candidate = socket.socket(family, kind, protocol)
    try:
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
        candidate.bind(address)
    except OSError:
        candidate.close()
        raise
    return candidate

"""Options of the listening socket that the HTTP server has no setting for."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path


def drop_stalled_clients(seconds: float) -> int:
    """Let the kernel end connections whose client takes nothing for `seconds`.

    Returns how many listening sockets of this process were told so; 0 is before it listens.
    The deadline of an answer ends the work on it, but bytes that the server has queued already
    would stay as long as the client holds on. Accepted connections inherit TCP_USER_TIMEOUT.
    """
    told = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            if not descriptor.readlink().name.startswith("socket:"):
                continue
            with socket.socket(fileno=os.dup(int(descriptor.name))) as found:
                if found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    found.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(seconds * 1000))
                    told += 1
    return told

"""A renderer as a hostile picture might leave it.

It answers its first job with the bytes of a file, hangs, dies, or asks for memory without end.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path

from chitram.images.adapters.children.confine import limit_cpu
from chitram.images.adapters.children.frames import Ready, frame

with socket.socket(fileno=0) as connection:
    connection.recv(1 << 20)
    connection.sendall(frame(Ready()))
    connection.recv(1 << 20)
    if sys.argv[1] == "spin":
        limit_cpu(0.0)
        while True:
            pass
    if sys.argv[1] == "hang":
        signal.pause()
    if sys.argv[1] == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    connection.sendall(Path(sys.argv[1]).read_bytes())
    connection.recv(1)

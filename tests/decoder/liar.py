"""A decoder as a hostile image might leave it: it answers its first job with the bytes of a file."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

from chitram.images.adapters.children.frames import Ready, frame

with socket.socket(fileno=0) as connection:
    connection.recv(1 << 20)
    connection.sendall(frame(Ready()))
    connection.recv(1 << 20)
    connection.sendall(Path(sys.argv[1]).read_bytes())
    connection.recv(1)

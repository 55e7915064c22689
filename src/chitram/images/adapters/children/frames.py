"""How a pool and its children speak: length-bounded msgpack over a Unix socket.

The pool sends the child's terms once and gets `Ready`; then, for every file, a job with a
descriptor beside it, answered by one message.
"""

from __future__ import annotations

import struct

import msgspec

# Nothing that a pool sends is longer.
MAX_JOB_BYTES = 1 << 20
_LENGTH = struct.Struct(">I")
LENGTH_BYTES = _LENGTH.size


class ProtocolError(Exception):
    """A child said something that cannot be true or cannot be read."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What every child is held to: address space in bytes, processor time in seconds for each job.

    `niceness` is what goes on top of its parent's.
    """

    memory_bytes: int
    cpu_seconds: float
    niceness: int


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """Everything is loaded and the limits are in force."""


_READY = msgspec.msgpack.Decoder(Ready)


def frame(message: msgspec.Struct) -> bytes:
    """Encode a message with its length in front."""
    body = msgspec.msgpack.encode(message)
    return _LENGTH.pack(len(body)) + body


def body_length(prefix: bytes, most: int) -> int:
    """Return the length that a frame announces; raises `ProtocolError` when it is above `most`."""
    length: int = _LENGTH.unpack(prefix)[0]
    if not 0 < length <= most:
        raise ProtocolError(f"a frame of {length} bytes was announced")
    return length


def read_ready(body: bytes) -> None:
    """Raises `ProtocolError` unless a child says that it is ready."""
    try:
        _READY.decode(body)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise ProtocolError(f"the child did not say that it is ready: {error}") from error

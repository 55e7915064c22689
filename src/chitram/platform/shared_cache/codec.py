"""How a value of the shared cache is written: a kind, a shape, and MessagePack."""

from __future__ import annotations

from hashlib import sha256
from typing import Generic, TypeVar

import msgspec

VALUE, MISSING, LEASE = b"V", b"N", b"L"
_KIND_BYTES = 1
_SHAPE_BYTES = 8

T = TypeVar("T", bound=msgspec.Struct)


def shape_of(kind: type, meaning: int) -> bytes:
    """A fingerprint of all fields of a Struct and of their types, 8 bytes.

    Values carry it, so that no release reads what another with other fields has written. It is
    not part of the key: an invalidation has to reach the values of every release that is running.
    """
    schema = msgspec.json.encode([meaning, msgspec.json.schema(kind)], order="deterministic")
    return sha256(schema).digest()[:_SHAPE_BYTES]


class UnreadableValue(Exception):
    """A value is of another shape, or damaged."""


class Codec(Generic[T]):
    """Writes and reads values of one Struct.

    Args:
        kind: the Struct.
        meaning: raised by hand when a field of it keeps its type and changes its meaning.
    """

    def __init__(self, kind: type[T], meaning: int = 1) -> None:
        self.shape = shape_of(kind, meaning)
        self._decoder = msgspec.msgpack.Decoder(kind)

    def encode(self, value: T | None) -> bytes:
        """Write a value, or that there is none."""
        return MISSING if value is None else VALUE + self.shape + msgspec.msgpack.encode(value)

    def decode(self, encoded: bytes) -> T | None:
        """Read what `encode` wrote. Raises `UnreadableValue`."""
        if encoded == MISSING:
            return None
        head, body = encoded[: _KIND_BYTES + _SHAPE_BYTES], encoded[_KIND_BYTES + _SHAPE_BYTES :]
        if head != VALUE + self.shape:
            raise UnreadableValue
        try:
            return self._decoder.decode(body)
        except msgspec.MsgspecError as error:
            raise UnreadableValue from error

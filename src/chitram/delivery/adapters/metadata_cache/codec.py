"""How a value of the shared cache is written: a kind, a shape, and MessagePack."""

from __future__ import annotations

from hashlib import sha256

import msgspec

from chitram.images.public import ImageView

# Raised by hand when a field of the view keeps its type and changes its meaning.
_MEANING = 1

VALUE, MISSING, LEASE = b"V", b"N", b"L"
_KIND_BYTES = 1
_SHAPE_BYTES = 8

_decoder = msgspec.msgpack.Decoder(ImageView)


def shape_of(kind: type, meaning: int = _MEANING) -> bytes:
    """A fingerprint of all fields of a Struct and of their types, 8 bytes.

    Values carry it, so that no release reads what another with other fields has written. It is
    not part of the key: an invalidation has to reach the values of every release that is running.
    """
    schema = msgspec.json.encode([meaning, msgspec.json.schema(kind)], order="deterministic")
    return sha256(schema).digest()[:_SHAPE_BYTES]


SHAPE = shape_of(ImageView)


class UnreadableValue(Exception):
    """A value is of another shape, or damaged."""


def encode(view: ImageView | None) -> bytes:
    """Write a view, or that there is no such image."""
    return MISSING if view is None else VALUE + SHAPE + msgspec.msgpack.encode(view)


def decode(value: bytes) -> ImageView | None:
    """Read what `encode` wrote. Raises `UnreadableValue`."""
    if value == MISSING:
        return None
    head, body = value[: _KIND_BYTES + _SHAPE_BYTES], value[_KIND_BYTES + _SHAPE_BYTES :]
    if head != VALUE + SHAPE:
        raise UnreadableValue
    try:
        return _decoder.decode(body)
    except msgspec.MsgspecError as error:
        raise UnreadableValue from error

"""What a rendering child and its pool say to each other: a `Job`, answered by `Made` or `Refused`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

import msgspec

from chitram.images.adapters.children.frames import ProtocolError
from chitram.images.domain.image import ImageFormat
from chitram.images.domain.rendition import RenditionFormat, RenditionKind

Text = Annotated[str, msgspec.Meta(max_length=200)]
Pixels = Annotated[int, msgspec.Meta(ge=1, lt=1 << 31)]


class Work(StrEnum):
    """What to make of an original."""

    THUMBNAILS = "thumbnails"
    OPTIMISED = "optimised"


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One original, whose descriptor comes with it: what the pool has read in its header.

    Width and height are as coded, before the rotation that `orientation` asks for.
    """

    work: Work
    format: ImageFormat
    size: int
    width: int
    height: int
    orientation: int


class Encoded(msgspec.Struct, frozen=True, array_like=True):
    """One rendition."""

    kind: RenditionKind
    format: RenditionFormat
    width: Pixels
    height: Pixels
    content: bytes


class Made(msgspec.Struct, frozen=True, tag="made"):
    """The renditions of an original, in the order of their kinds."""

    renditions: Annotated[list[Encoded], msgspec.Meta(max_length=3)]


class Refused(msgspec.Struct, frozen=True, kw_only=True, tag="refused"):
    """An original that cannot be rendered; `cause` is the error of a library, for the log."""

    reason: Literal["corrupt", "memory"]
    cause: Text


Answer = Made | Refused
_ANSWER: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)


def read_answer(body: bytes) -> Answer:
    """Decode the answer to a job; raises `ProtocolError`."""
    try:
        return _ANSWER.decode(body)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise ProtocolError(f"the answer cannot be read: {error}") from error

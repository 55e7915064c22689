"""What a decoder and its pool say to each other.

For every image there is a `Job`, answered by `Accepted` or `Refused`. Whatever a decoder says may
come from one that a hostile image has taken over, so `verify` holds every answer against what can be
true.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from chitram.images.adapters.children.frames import Limits, ProtocolError
from chitram.images.domain.content import Piece, Slice
from chitram.images.domain.image import ImageFormat

# A plan of `MAX_PIECES` pieces is below 300 KB.
MAX_FRAME_BYTES = 1 << 20
MAX_PIECES = 20_000
# JFIF, Adobe and orientation need 16 + 16 + 36 bytes, an eXIf chunk 38; several Adobe markers are legal.
MAX_LITERAL_BYTES = 1024

Text = Annotated[str, msgspec.Meta(max_length=200)]
Count = Annotated[int, msgspec.Meta(ge=0, lt=1 << 40)]
Pixels = Annotated[int, msgspec.Meta(ge=1, lt=1 << 31)]
WireSlice = tuple[Count, Annotated[int, msgspec.Meta(ge=1, lt=1 << 40)]]


class Terms(Limits, frozen=True, kw_only=True):
    """What holds for all images of a decoder."""

    max_pixels: int
    allowed_formats: tuple[ImageFormat, ...]
    keep_metadata: bool


class Job(msgspec.Struct, frozen=True, array_like=True):
    """One image: the size in bytes of the file whose descriptor comes with it."""

    size: int


class Accepted(msgspec.Struct, frozen=True, kw_only=True, tag="accepted"):
    """A whole image: width and height as displayed, and the plan of what to store of it."""

    format: ImageFormat
    width: Pixels
    height: Pixels
    pieces: Annotated[list[WireSlice | bytes], msgspec.Meta(min_length=1, max_length=MAX_PIECES)]


class Refused(msgspec.Struct, frozen=True, kw_only=True, tag="refused"):
    """An image that is not accepted, in the words for the client.

    `unexpected` is for the log: the error of a library that nobody foresaw.
    """

    code: Literal["INVALID_FILE_FORMAT", "IMAGE_TOO_LARGE", "CORRUPT_IMAGE"]
    message: Text
    detected: Text | None = None
    width: Pixels | None = None
    height: Pixels | None = None
    unexpected: Text | None = None


Answer = Accepted | Refused
_ANSWER: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)


def read_answer(body: bytes) -> Answer:
    """Decode the answer to a job; raises `ProtocolError`."""
    try:
        return _ANSWER.decode(body)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise ProtocolError(f"the answer cannot be read: {error}") from error


def verify(answer: Accepted, received_bytes: int, terms: Terms) -> tuple[Piece, ...]:
    """Return the plan of an answer that can be true; raises `ProtocolError` for any other.

    Slices must lie inside what was received, in order and without overlap.
    """
    if answer.format not in terms.allowed_formats:
        raise ProtocolError(f"{answer.format} is not accepted here")
    if answer.width * answer.height > terms.max_pixels:
        raise ProtocolError("the image has more pixels than are accepted here")
    reached = literal = 0
    pieces: list[Piece] = []
    for piece in answer.pieces:
        if isinstance(piece, bytes):
            literal += len(piece)
            pieces.append(piece)
            continue
        offset, length = piece
        if offset < reached or offset + length > received_bytes:
            raise ProtocolError("a slice lies outside of what was received")
        reached = offset + length
        pieces.append(Slice(offset, length))
    if literal > MAX_LITERAL_BYTES:
        raise ProtocolError(f"{literal} bytes were made up")
    return tuple(pieces)

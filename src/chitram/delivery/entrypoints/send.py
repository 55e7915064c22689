"""Sending one stored object with everything HTTP asks for: conditions, ranges, caching, deadline."""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
from collections.abc import Iterator, Mapping

import msgspec
from litestar.types import Receive, Scope, Send

from chitram.delivery.domain.conditional import Outcome, evaluate, range_applies
from chitram.delivery.domain.ranges import ByteRange, parse_range
from chitram.delivery.entrypoints.small_bodies import SMALL_BYTES, SmallBodies
from chitram.delivery.ports import Delivery, ImageFiles, OpenFile, SentByProxy, SentByStore
from chitram.delivery.representations import Representation
from chitram.kernel.errors import Category, ChitramError, StorageUnavailable
from chitram.platform.http.head import RequestHead

# Of what is not small, reads of this size follow the client, each sent as it is. The server queues four for a
# client that does not read, and copies each. One fits with room into the 65,483 bytes of a segment of the
# loopback device: a tail beyond it waits for the window of a client that reads little at a time.
CHUNK_BYTES = 56 * 1024
_CHUNKS_BETWEEN_LOOKS = 4
# The request fields that decide what is sent.
_CONDITIONS = {
    name.encode(): name
    for name in (
        "if-match",
        "if-none-match",
        "if-modified-since",
        "if-unmodified-since",
        "if-range",
        "range",
    )
}
_NO_BODY = (b"content-length", b"0")

# One range, written as every server reads it alike.
_PLAIN_RANGE = re.compile(r"bytes=(?:[0-9]{1,15}-[0-9]{0,15}|-[0-9]{1,15})", re.ASCII)

Headers = list[tuple[bytes, bytes]]


class PreconditionFailed(ChitramError):
    """A condition of the request does not hold: 412."""

    code = "PRECONDITION_FAILED"
    category = Category.INVALID
    default_message = "A condition of the request does not hold."
    status = 412


class RangeNotSatisfiable(ChitramError):
    """The object has none of the bytes asked for: 416 with its whole length."""

    code = "RANGE_NOT_SATISFIABLE"
    category = Category.INVALID
    default_message = "The range lies outside the file."
    status = 416

    def __init__(self, size: int) -> None:
        super().__init__(details={"size": size})
        self.headers = {"content-range": f"bytes */{size}"}


class SendObject(msgspec.Struct, frozen=True, kw_only=True):
    """An ASGI application that answers GET and HEAD with one representation; a handler may return it.

    Answers 200, 206 or 304, hands the sending over, or raises `PreconditionFailed`,
    `RangeNotSatisfiable` and whatever `delivery` and `files` raise, before anything is sent.
    Only a body that is sent opens the object. Once
    the answer has begun, an error of the store is raised and breaks the connection off; a client
    that is gone, or slower than `seconds` for the whole, ends it quietly and unfinished.

    Attributes:
        chosen: what to send.
        head: of the request.
        files: opens it.
        bodies: has what was read lately.
        delivery: has the whole or one range sent by somebody else; asked for a GET alone.
        cache_control: how long others may keep it.
        seconds: time within which the client has to have taken a long body.
        visible_seconds: for how long the client may be let in at most; None is without an end.
        vary: request headers that choose between representations.
    """

    chosen: Representation
    head: RequestHead
    files: ImageFiles
    bodies: SmallBodies
    delivery: Delivery
    cache_control: str
    seconds: float
    visible_seconds: int | None = None
    vary: str | None = None

    async def __call__(self, _: Scope, receive: Receive, send: Send) -> None:
        chosen, method = self.chosen, self.head.method
        conditions = self.head.lines(_CONDITIONS)
        ranges = None
        if conditions:
            outcome = evaluate(method, conditions, chosen.etag, chosen.last_modified)
            if outcome is Outcome.PRECONDITION_FAILED:
                raise PreconditionFailed
            if outcome is Outcome.NOT_MODIFIED:
                await _start(send, 304, [*chosen.validators, *self._caching()])
                await _end(send)
                return
            ranges = _ranges(method, conditions, chosen)
        if method == "GET" and _others_would_agree(conditions, ranges):
            sender = await self.delivery.hand_over(chosen, self.visible_seconds)
            if sender:
                await self._refer_to(sender, send)
                return
        if ranges is None and method == "GET" and (body := self.bodies.get(chosen)):
            await _start(send, 200, [*chosen.whole, *self._caching()])
            await _end(send, body)
            return
        answer = self._answer(ranges)
        if method == "HEAD":
            await _start(send, answer.status, answer.headers)
            await _end(send)
            return
        opened = await self.files.open(chosen)
        try:
            if opened.size != chosen.size:
                raise StorageUnavailable("The stored file is not whole.")
            await self._send_body(answer, opened, receive, send)
        finally:
            await opened.aclose()

    async def _refer_to(self, sender: SentByProxy | SentByStore, send: Send) -> None:
        """Answer without a body that `sender` sends it; the store's address is nobody's to keep."""
        if isinstance(sender, SentByProxy):
            address = (b"x-accel-redirect", sender.path.encode())
            media_type = (b"content-type", self.chosen.media_type.encode())
            said = (*self.chosen.description, *self._caching())
            await _start(send, 200, [media_type, *said, address, _NO_BODY])
        else:
            address = (b"location", sender.url.encode())
            await _start(send, 307, [address, (b"cache-control", b"no-store"), _NO_BODY])
        await _end(send)

    def _answer(self, ranges: tuple[ByteRange, ...] | None) -> _Answer:
        chosen = self.chosen
        if ranges is None:
            whole = (ByteRange(0, chosen.size - 1),)
            return _Answer(200, [*chosen.whole, *self._caching()], whole, chosen.size, is_whole=True)
        media_type = chosen.media_type.encode()
        extra: Headers = []
        pieces: tuple[ByteRange | bytes, ...]
        if len(ranges) == 1:
            pieces = ranges
            extra = [(b"content-range", _content_range(ranges[0], chosen.size))]
        else:
            boundary = secrets.token_hex(16).encode()
            pieces = _byteranges(ranges, chosen.size, media_type, boundary)
            media_type = b"multipart/byteranges; boundary=" + boundary
        length = sum(len(piece) if isinstance(piece, bytes) else piece.length for piece in pieces)
        described = [(b"content-type", media_type), *chosen.description, *self._caching()]
        length_and_ranges = [(b"content-length", str(length).encode()), (b"accept-ranges", b"bytes")]
        return _Answer(206, [*described, *length_and_ranges, *extra], pieces, length)

    def _caching(self) -> Headers:
        """What is said of keeping an answer, whatever its status."""
        headers = [(b"cache-control", self.cache_control.encode())]
        if self.vary:
            headers.append((b"vary", self.vary.encode()))
        return headers

    async def _send_body(self, answer: _Answer, opened: OpenFile, receive: Receive, send: Send) -> None:
        if answer.length <= SMALL_BYTES:
            reads = _reads(answer.pieces, SMALL_BYTES)
            body = b"".join([await read.perform(opened) for read in reads])
            if answer.is_whole:
                self.bodies.read(self.chosen, body)
            await _start(send, answer.status, answer.headers)
            await _end(send, body)
            return
        reads = _reads(answer.pieces, CHUNK_BYTES)
        # Read before the status is sent: a store that fails now can still be told of by it.
        first = await next(reads).perform(opened)
        await _start(send, answer.status, answer.headers)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.seconds):
                await _stream(answer.length, first, reads, opened, receive, send)


def _ranges(
    method: str, conditions: Mapping[str, str], chosen: Representation
) -> tuple[ByteRange, ...] | None:
    """The ranges to send, or None for the whole. Raises `RangeNotSatisfiable`."""
    if method != "GET" or "range" not in conditions:
        return None
    if not range_applies(conditions.get("if-range"), chosen.etag, chosen.last_modified):
        return None
    ranges = parse_range(conditions["range"], chosen.size)
    if ranges == ():
        raise RangeNotSatisfiable(chosen.size)
    return ranges


def _others_would_agree(conditions: Mapping[str, str], ranges: tuple[ByteRange, ...] | None) -> bool:
    """Whether anyone who has the bytes would answer a GET under these conditions with the same ones.

    Others have validators of their own and would judge our client's conditions by those; and
    they differ in what they make of several ranges or of a range that is written oddly.
    """
    if not conditions:
        return True
    if conditions.keys() != {"range"}:
        return False
    return ranges is not None and _PLAIN_RANGE.fullmatch(conditions["range"]) is not None


class _Answer(msgspec.Struct, frozen=True):
    status: int
    headers: Headers
    pieces: tuple[ByteRange | bytes, ...]
    length: int
    is_whole: bool = False


def _content_range(part: ByteRange, size: int) -> bytes:
    return f"bytes {part.first}-{part.last}/{size}".encode()


def _byteranges(
    ranges: tuple[ByteRange, ...], size: int, media_type: bytes, boundary: bytes
) -> tuple[ByteRange | bytes, ...]:
    """Ranges with the headers of multipart/byteranges (RFC 9110, section 14.6) between them."""
    pieces: list[ByteRange | bytes] = []
    for index, part in enumerate(ranges):
        pieces.append(
            b"%b--%b\r\ncontent-type: %b\r\ncontent-range: %b\r\n\r\n"
            % (
                b"\r\n" if index else b"",
                boundary,
                media_type,
                _content_range(part, size),
            )
        )
        pieces.append(part)
    pieces.append(b"\r\n--%b--\r\n" % boundary)
    return tuple(pieces)


class _Read(msgspec.Struct, frozen=True):
    """Literal bytes, and after them `length` bytes of the object from `offset` on."""

    prefix: bytes
    offset: int
    length: int

    async def perform(self, opened: OpenFile) -> bytes:
        """Raises `StorageUnavailable` when the object lacks bytes."""
        if not self.length:
            return self.prefix
        chunk = await opened.read(self.offset, self.length)
        if len(chunk) != self.length:
            raise StorageUnavailable("The stored file is not whole.")
        return self.prefix + chunk if self.prefix else chunk


def _reads(pieces: tuple[ByteRange | bytes, ...], size: int) -> Iterator[_Read]:
    """Divide an answer into reads of at most `size` bytes."""
    prefix = b""
    for piece in pieces:
        if isinstance(piece, bytes):
            prefix = piece
            continue
        for offset in range(piece.first, piece.last + 1, size):
            yield _Read(prefix, offset, min(size, piece.last + 1 - offset))
            prefix = b""
    if prefix:
        yield _Read(prefix, 0, 0)


async def _stream(
    length: int, first: bytes, reads: Iterator[_Read], opened: OpenFile, receive: Receive, send: Send
) -> None:
    """Send chunks as fast as the client takes them, until all are sent or it is gone."""
    gone = asyncio.ensure_future(_disconnected(receive))
    try:
        left = length - len(first)
        await send({"type": "http.response.body", "body": first, "more_body": True})
        for number, read in enumerate(reads):
            # Sending to a client that is gone neither fails nor waits, so it has to be asked for.
            if number % _CHUNKS_BETWEEN_LOOKS == 0:
                await asyncio.sleep(0)
            if gone.done():
                return
            chunk = await read.perform(opened)
            left -= len(chunk)
            await send({"type": "http.response.body", "body": chunk, "more_body": left > 0})
    finally:
        gone.cancel()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _start(send: Send, status: int, headers: Headers) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def _end(send: Send, body: bytes = b"") -> None:
    await send({"type": "http.response.body", "body": body, "more_body": False})

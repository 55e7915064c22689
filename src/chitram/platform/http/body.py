"""Reading request bodies: one pass, under a deadline and a limit."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path

from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPReceiveMessage, Message, Receive, Scope, Send

from chitram.kernel.errors import Category, ChitramError, FileTooLarge, InvalidRequest
from chitram.platform.spool import Spool

# How much of a refused body is still read, so that its refusal is not lost to a reset.
_DRAIN_BYTES = 64 * 1024 * 1024
_DRAIN_SECONDS = 30.0
_DRAIN_IDLE_SECONDS = 2.0


class UploadTimeout(ChitramError):
    """The deadline of a body passed before its end."""

    code = "UPLOAD_TIMEOUT"
    category = Category.TIMEOUT
    default_message = "The body did not arrive in time."


class ClientDisconnected(InvalidRequest):
    """The client went away, or closed its half of the connection, in the middle of a body."""

    default_message = "The body ended before it was complete."


async def chunks(
    receive: Receive, *, deadline_seconds: float, extended_by_bytes: int | None = None
) -> AsyncIterator[bytes]:
    """Yield a body as it arrives.

    The deadline counts from the first step to the last byte, whatever the consumer does between;
    each time `extended_by_bytes` have come, there is as long again. Raises `UploadTimeout` and
    `ClientDisconnected`.
    """
    deadline = asyncio.get_running_loop().time() + deadline_seconds
    earned = 0
    more = True
    while more:
        message = await _receive_before(deadline, receive)
        if message["type"] != "http.request":
            raise ClientDisconnected
        more = message.get("more_body", False)
        if chunk := message.get("body", b""):
            if extended_by_bytes:
                extensions, earned = divmod(earned + len(chunk), extended_by_bytes)
                deadline += extensions * deadline_seconds
            yield chunk


async def _receive_before(deadline: float, receive: Receive) -> HTTPReceiveMessage:
    # A client whose bytes are always there already would never let the timer fire.
    if asyncio.get_running_loop().time() >= deadline:
        raise UploadTimeout
    try:
        async with asyncio.timeout_at(deadline):
            return await receive()  # type: ignore[return-value] # an HTTP scope receives no websocket message
    except TimeoutError:
        raise UploadTimeout from None


async def read_raw(
    receive: Receive, content_length: int | None, *, limit: int, seconds: float, spool_directory: Path
) -> Spool:
    """Read a whole body of 1 to `limit` bytes to disk within `seconds`; the caller closes the spool.

    An announced length over the limit is refused before anything is read.

    Raises `FileTooLarge`, `UploadTimeout`, `ClientDisconnected`, `InvalidRequest` when the body is
    empty, and `StorageUnavailable`.
    """
    if content_length is not None and content_length > limit:
        raise FileTooLarge(limit)
    with contextlib.ExitStack() as on_error:
        spool = on_error.enter_context(Spool(spool_directory))
        async for chunk in chunks(receive, deadline_seconds=seconds):
            if spool.size + len(chunk) > limit:
                raise FileTooLarge(limit)
            await spool.write(chunk)
        if not spool.size:
            raise InvalidRequest("The body is empty.")
        await spool.flush()
        on_error.pop_all()
    return spool


async def drain(
    receive: Receive,
    *,
    max_bytes: int = _DRAIN_BYTES,
    seconds: float = _DRAIN_SECONDS,
    idle_seconds: float = _DRAIN_IDLE_SECONDS,
) -> None:
    """Read on and throw away, until the body ends or any bound is reached. Never raises for a client.

    Use it after an answer that was sent before the body was read to its end: closing a socket with
    unread bytes resets the connection, and a client still writing then fails before it reads.
    """
    left = max_bytes
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while left > 0:
                async with asyncio.timeout(idle_seconds):
                    message = await receive()
                if message["type"] != "http.request" or not message.get("more_body", False):
                    return
                left -= len(message.get("body", b""))


class DrainUnread:
    """Outermost ASGI layer: after an answer, reads on what the application left of the body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] != ScopeType.HTTP or not _has_body(scope):
            return self._app(scope, receive, send)
        return self._with_body(scope, receive, send)

    async def _with_body(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = _Exchange(receive, send, expects_continue=_expects_continue(scope))
        await self._app(scope, exchange.receive, exchange.send)
        if exchange.is_unread and exchange.is_answered:
            await drain(receive)


class _Exchange:
    """Watches how far a request was read and answered."""

    def __init__(self, receive: Receive, send: Send, *, expects_continue: bool) -> None:
        self._receive = receive
        self._send = send
        # Who waits for 100 Continue has not sent anything, and will not after a refusal.
        self.is_unread = not expects_continue
        self.is_answered = False

    async def receive(self) -> HTTPReceiveMessage:
        message = await self._receive()
        self.is_unread = message["type"] == "http.request" and message.get("more_body", False)
        return message  # type: ignore[return-value] # an HTTP scope receives no websocket message

    async def send(self, message: Message) -> None:
        await self._send(message)
        if message["type"] == "http.response.body":
            self.is_answered = not message.get("more_body", False)


def _has_body(scope: Scope) -> bool:
    # Asked of every request: a loop takes a third of the time of a generator.
    for name, value in scope["headers"]:
        if name == b"transfer-encoding" or (name == b"content-length" and value != b"0"):
            return True
    return False


def _expects_continue(scope: Scope) -> bool:
    return any(name == b"expect" and value.lower() == b"100-continue" for name, value in scope["headers"])

"""Around every request: its id, its access line, and the last net under it."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Awaitable

import msgspec
import structlog
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from chitram.kernel.errors import ChitramError
from chitram.platform.http.access_log import AccessLog
from chitram.platform.http.errors import error_body
from chitram.platform.logging import request_id

_WELL_FORMED_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_REQUEST_ID_BYTES = 16
# A client that went away before its answer: nginx's number, as HTTP has none.
_CLIENT_CLOSED_REQUEST = 499

_log = structlog.get_logger("chitram.access")


class RequestEnvelope:
    """ASGI layer around the whole application.

    Gives every answer an `X-Request-ID`, writes one access line per request (no query string, no
    header, no body: these may hold tokens), and turns what escaped everything else into the one
    error format.
    """

    def __init__(self, app: ASGIApp, access_log: AccessLog | None) -> None:
        self._app = app
        self._access_log = access_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(request_id_of(scope), send)
        request_id.set(exchange.request_id)
        started = time.perf_counter()
        try:
            await self._app(scope, receive, exchange.send)
        except Exception:
            _log.exception("request failed")
            if exchange.status is None:
                await exchange.send_failure()
            else:
                # The answer has begun: only a broken connection can still say that it is not whole.
                raise
        finally:
            if self._access_log:
                self._access_log.write(
                    scope,
                    request_id=exchange.request_id,
                    status=exchange.status or _CLIENT_CLOSED_REQUEST,
                    sent=exchange.sent,
                    seconds=time.perf_counter() - started,
                )


class _Exchange:
    """Watches one answer go by."""

    def __init__(self, request_id: str, send: Send) -> None:
        self.request_id = request_id
        self.status: int | None = None
        self.sent = 0
        self._send = send

    def send(self, message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            self.status = int(message["status"])
            headers = [*message.get("headers", ()), (b"x-request-id", self.request_id.encode())]
            return self._send({**message, "headers": headers})
        if message["type"] == "http.response.body":
            self.sent += len(message.get("body", b""))
        return self._send(message)

    async def send_failure(self) -> None:
        body = msgspec.json.encode(error_body(ChitramError()))
        await self.send(
            {
                "type": "http.response.start",
                "status": 500,
                "headers": [
                    (b"content-type", b"application/json"),
                    (b"content-length", str(len(body)).encode()),
                ],
            }
        )
        await self.send({"type": "http.response.body", "body": body, "more_body": False})


def request_id_of(scope: Scope) -> str:
    """Take the client's `X-Request-ID` when it is well formed, else make one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _WELL_FORMED_ID.fullmatch(value):
            return value.decode()
    return secrets.token_hex(_REQUEST_ID_BYTES)

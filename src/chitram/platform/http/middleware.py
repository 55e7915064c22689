"""Around every request: its id, its access line, and the last net under it."""

from __future__ import annotations

import re
import time
from ipaddress import ip_address, ip_network
from urllib.parse import quote
from uuid import uuid4

import msgspec
import structlog
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from chitram.kernel.errors import ChitramError
from chitram.platform.http.errors import error_body

_WELL_FORMED_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_LOGGED_PATH_CHARACTERS = 200
# A client that went away before its answer: nginx's number, as HTTP has none.
_CLIENT_CLOSED_REQUEST = 499

_log = structlog.get_logger("chitram.access")


class RequestEnvelope:
    """ASGI layer around the whole application.

    Gives every answer an `X-Request-ID`, writes one access line per request (no query string, no
    header, no body: these may hold tokens), and turns what escaped everything else into the one
    error format.
    """

    def __init__(self, app: ASGIApp, log_addresses: str) -> None:
        self._app = app
        self._log_addresses = log_addresses

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(request_id_of(scope), send)
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=exchange.request_id)
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
            _log.info(
                "request",
                method=scope["method"],
                path=quote(scope["path"], safe="/")[:_LOGGED_PATH_CHARACTERS],
                status=exchange.status or _CLIENT_CLOSED_REQUEST,
                sent=exchange.sent,
                ms=round((time.perf_counter() - started) * 1000, 1),
                **self._address(scope),
            )

    def _address(self, scope: Scope) -> dict[str, str]:
        if self._log_addresses == "none" or not scope["client"]:
            return {}
        host = scope["client"][0]
        return {"client": host if self._log_addresses == "full" else truncate_address(host)}


class _Exchange:
    """Watches one answer go by."""

    def __init__(self, request_id: str, send: Send) -> None:
        self.request_id = request_id
        self.status: int | None = None
        self.sent = 0
        self._send = send

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = int(message["status"])
            headers = [*message.get("headers", ()), (b"x-request-id", self.request_id.encode())]
            await self._send({**message, "headers": headers})
            return
        if message["type"] == "http.response.body":
            self.sent += len(message.get("body", b""))
        await self._send(message)

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
    return uuid4().hex


def truncate_address(address: str) -> str:
    """Keep of a network address what tells networks apart but not people: /24, or /48 in IPv6."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return "unknown"
    prefix = 24 if parsed.version == 4 else 48  # noqa: PLR2004 - IP versions
    return str(ip_network((parsed, prefix), strict=False))

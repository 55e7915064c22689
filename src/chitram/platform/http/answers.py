"""Whole answers of few bytes, as ASGI applications."""

from __future__ import annotations

import msgspec
from litestar.types import Receive, Scope, Send

_JSON = (b"content-type", b"application/json")


class JsonAnswer(msgspec.Struct, frozen=True):
    """An answer of encoded JSON; to HEAD the same without the body."""

    body: bytes
    fields: tuple[tuple[bytes, bytes], ...] = ()
    status: int = 200

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI
        length = (b"content-length", b"%d" % len(self.body))
        headers = [_JSON, length, *self.fields]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        body = b"" if scope["method"] == "HEAD" else self.body  # type: ignore[typeddict-item] # of HTTP
        await send({"type": "http.response.body", "body": body, "more_body": False})

"""A limit on the query of every request."""

from __future__ import annotations

from collections.abc import Awaitable

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

from chitram.kernel.errors import Category, ChitramError
from chitram.platform.http.errors import answer_to

# The longest that means anything, a signed link or a cursor, has a few hundred.
MAX_QUERY_BYTES = 4096


class QueryTooLong(ChitramError):
    """A query is longer than any that means anything: 414."""

    code = "QUERY_TOO_LONG"
    category = Category.TOO_LARGE
    default_message = "The query of the address is too long."
    status = 414


class QueryLimit:
    """ASGI layer that refuses long queries: the framework remembers each of them, taken apart."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == ScopeType.HTTP and len(scope["query_string"]) > MAX_QUERY_BYTES:
            refusal = answer_to(QueryTooLong(details={"max_bytes": MAX_QUERY_BYTES}))
            return refusal(scope, receive, send)
        return self._app(scope, receive, send)

"""Reading small JSON bodies."""

from __future__ import annotations

from typing import TypeVar

import msgspec
from litestar.types import Receive

from chitram.kernel.errors import Category, ChitramError, InvalidRequest
from chitram.platform.http.body import chunks

T = TypeVar("T", bound=msgspec.Struct)

_MAX_BYTES = 16 * 1024
_SECONDS = 10.0
# What is wrong may name a field that the client has made up.
_TOLD_CHARACTERS = 200


class RequestTooLarge(ChitramError):
    """A JSON body is over its limit, `max_bytes`."""

    code = "REQUEST_TOO_LARGE"
    category = Category.TOO_LARGE
    default_message = "The body is larger than is accepted here."


async def read_json(receive: Receive, kind: type[T], *, optional: bool = False) -> T:
    """Read a whole body as JSON, whatever type it declares, and check it against `kind`.

    When it is `optional`, none at all is an empty object.

    Raises `InvalidRequest` with what is wrong, `RequestTooLarge`, and what `body.chunks` raises
    when 16 KiB have not arrived within 10 seconds.
    """
    body = b""
    async for chunk in chunks(receive, deadline_seconds=_SECONDS):
        body += chunk
        if len(body) > _MAX_BYTES:
            raise RequestTooLarge(details={"max_bytes": _MAX_BYTES})
    try:
        return msgspec.json.decode(body or (b"{}" if optional else b""), type=kind)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"The body is not as described: {str(error)[:_TOLD_CHARACTERS]}.") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidRequest("The body is not JSON.") from None

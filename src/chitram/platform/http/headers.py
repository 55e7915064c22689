"""Header fields that several rooms read."""

from __future__ import annotations

from typing import Any

from litestar import Request

from chitram.kernel.errors import InvalidRequest


def joined_lines(request: Request[Any, Any, Any], name: str) -> str | None:
    """The lines of a field as one list (RFC 9110, section 5.3), or None without any."""
    lines = request.headers.getall(name, [])
    return ", ".join(lines) if lines else None


def content_length(request: Request[Any, Any, Any]) -> int | None:
    """The announced length in bytes, or None. Raises `InvalidRequest` when it is no number."""
    announced = request.headers.get("content-length")
    if announced is None:
        return None
    if not (announced.isascii() and announced.isdigit()):
        raise InvalidRequest("Content-Length is not a number.")
    return int(announced)

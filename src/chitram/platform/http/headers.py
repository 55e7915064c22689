"""Header fields that may come in several lines."""

from __future__ import annotations

from typing import Any

from litestar import Request


def joined_lines(request: Request[Any, Any, Any], name: str) -> str | None:
    """The lines of a field as one list (RFC 9110, section 5.3), or None without any."""
    lines = request.headers.getall(name, [])
    return ", ".join(lines) if lines else None

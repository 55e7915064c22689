"""The head of a request, read in one pass and without an object of the framework around it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import parse_qsl

from litestar.types import Scope

# More than any query that means something to a read.
_REMEMBERED_BYTES = 256


class RequestHead:
    """Method, path, header fields and parameters of a request.

    The lines of a field count as one list (RFC 9110, section 5.3).
    """

    __slots__ = ("_fields", "_query", "method", "path")

    def __init__(self, scope: Scope) -> None:
        self.method: str = scope["method"]  # type: ignore[typeddict-item] # asked of HTTP scopes alone
        self.path = scope["path"]
        self._query = scope["query_string"]
        fields: dict[bytes, bytes] = {}
        for name, value in scope["headers"]:
            fields[name] = b"%b, %b" % (fields[name], value) if name in fields else value
        self._fields = fields

    def line(self, name: bytes) -> str | None:
        """A field as one line, by its name in lower case; None without one."""
        value = self._fields.get(name)
        return None if value is None else value.decode("latin-1")

    def lines(self, names: Mapping[bytes, str]) -> dict[str, str]:
        """Those of some fields that are there and not empty, under what the names stand for."""
        fields = self._fields
        return {names[name]: fields[name].decode("latin-1") for name in names if fields.get(name)}

    def getall(self, name: str, default: list[str], /) -> list[str]:
        """A field as a list of its one line."""
        value = self._fields.get(_encoded(name))
        return default if value is None else [value.decode("latin-1")]

    def parameters(self, name: str) -> list[str]:
        """What the query says of a parameter, in its order."""
        return [value for key, value in _parameters(self._query) if key == name] if self._query else []


@lru_cache(64)
def _encoded(name: str) -> bytes:
    return name.lower().encode()


def _parameters(query: bytes) -> tuple[tuple[str, str], ...]:
    # A client may send thousands of parameters, of which each would take more memory than its bytes.
    return _remembered_query(query) if len(query) <= _REMEMBERED_BYTES else _parse_query(query)


@lru_cache(1024)
def _remembered_query(query: bytes) -> tuple[tuple[str, str], ...]:
    return _parse_query(query)


def _parse_query(query: bytes) -> tuple[tuple[str, str], ...]:
    return tuple(parse_qsl(query.decode("latin-1"), keep_blank_values=True))

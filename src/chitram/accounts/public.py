"""What the other modules may know of accounts: who is asking, what they may do, what it costs them."""

from __future__ import annotations

from typing import Protocol

from chitram.accounts.domain.errors import (
    Forbidden,
    InvalidToken,
    NotAuthenticated,
    QuotaExceeded,
    TokenExpired,
)
from chitram.accounts.domain.principal import ALL_SCOPES, ANONYMOUS, Principal, Scope
from chitram.accounts.ports import AuditLog, Quotas

__all__ = [
    "ALL_SCOPES",
    "ANONYMOUS",
    "AuditLog",
    "Authenticator",
    "Forbidden",
    "InvalidToken",
    "NotAuthenticated",
    "Principal",
    "QuotaExceeded",
    "Quotas",
    "Scope",
    "TokenExpired",
    "principal_of",
]


class Authenticator(Protocol):
    """Says who makes a request."""

    async def principal(self, authorization: str | None, api_key: str | None) -> Principal:
        """Read the `Authorization` and `X-API-Key` header fields of a request.

        Raises `InvalidToken`, `TokenExpired` and `DatabaseUnavailable`: credentials that are no good
        are refused, also where none are needed.
        """
        ...


class HeaderFields(Protocol):
    """The header fields of a request, whose names are found in any case."""

    def getall(self, name: str, default: list[str], /) -> list[str]: ...


async def principal_of(headers: HeaderFields, authenticator: Authenticator) -> Principal:
    """Say who makes a request with these header fields."""
    return await authenticator.principal(_line(headers, "authorization"), _line(headers, "x-api-key"))


def _line(headers: HeaderFields, name: str) -> str | None:
    """The one line of a field; several become a list, which no credentials look like."""
    lines = headers.getall(name, [])
    return ", ".join(lines) if lines else None

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
from chitram.kernel.errors import ChitramError

__all__ = [
    "ALL_SCOPES",
    "ANONYMOUS",
    "AuditLog",
    "Authenticator",
    "Forbidden",
    "InvalidToken",
    "NotAuthenticated",
    "OncePerRequest",
    "Principal",
    "QuotaExceeded",
    "Quotas",
    "Scope",
    "SharedAuthenticator",
    "TokenExpired",
    "account_of",
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


class SharedAuthenticator(Authenticator, Protocol):
    """The authenticator of a whole process."""


class OncePerRequest:
    """The authenticator of one request: remembers who makes it, for its limit and its route both ask."""

    def __init__(self, authenticator: SharedAuthenticator) -> None:
        self._authenticator = authenticator
        self._asked: tuple[str | None, str | None] | None = None
        self._found: Principal | ChitramError = ANONYMOUS

    async def principal(self, authorization: str | None, api_key: str | None) -> Principal:
        if self._asked != (authorization, api_key):
            try:
                self._found = await self._authenticator.principal(authorization, api_key)
            except ChitramError as error:
                self._found = error
            self._asked = (authorization, api_key)
        if isinstance(self._found, ChitramError):
            raise self._found
        return self._found


class HeaderFields(Protocol):
    """The header fields of a request, whose names are found in any case."""

    def getall(self, name: str, default: list[str], /) -> list[str]: ...


async def principal_of(headers: HeaderFields, authenticator: Authenticator) -> Principal:
    """Say who makes a request with these header fields: without any credentials, the anonymous."""
    authorization, api_key = _line(headers, "authorization"), _line(headers, "x-api-key")
    if authorization is None and api_key is None:
        return ANONYMOUS
    return await authenticator.principal(authorization, api_key)


async def account_of(headers: HeaderFields, authenticator: Authenticator) -> str | None:
    """Name the account whose credentials a request brings; whether they are good is said elsewhere."""
    try:
        principal = await principal_of(headers, authenticator)
    except ChitramError:
        return None
    return str(principal.user_id) if principal.user_id else None


def _line(headers: HeaderFields, name: str) -> str | None:
    """The one line of a field; several become a list, which no credentials look like."""
    lines = headers.getall(name, [])
    return ", ".join(lines) if lines else None

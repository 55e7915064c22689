"""What the other modules may know of accounts: who is asking."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol
from uuid import UUID

import msgspec

from chitram.kernel.errors import Category, ChitramError


class NotAuthenticated(ChitramError):
    """Only somebody who is signed in may do this."""

    code = "NOT_AUTHENTICATED"
    category = Category.UNAUTHENTICATED
    default_message = "Sign in to do this."


class Forbidden(ChitramError):
    """Whoever is signed in may not do this."""

    code = "FORBIDDEN"
    category = Category.FORBIDDEN
    default_message = "This account may not do that."


class Principal(msgspec.Struct, frozen=True):
    """Whoever makes a request. `user_id` is None for anyone who is not signed in."""

    user_id: UUID | None = None
    is_admin: bool = False


ANONYMOUS = Principal()


class Authenticator(Protocol):
    """Says who makes a request."""

    async def principal(self, authorization: str | None, api_key: str | None) -> Principal:
        """Read the `Authorization` and `X-API-Key` header fields of a request."""
        ...


async def principal_of(headers: Mapping[str, str], authenticator: Authenticator) -> Principal:
    """Say who makes a request with these header fields, whose names are found in any case."""
    return await authenticator.principal(headers.get("authorization"), headers.get("x-api-key"))

"""What the other modules may know of accounts: who is asking."""

from __future__ import annotations

from typing import Protocol
from uuid import UUID

import msgspec


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

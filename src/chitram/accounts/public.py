"""What the other modules may know of accounts: who is asking, what they may do, what it costs them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, Protocol
from uuid import UUID

import msgspec

from chitram.kernel.errors import Category, ChitramError
from chitram.kernel.uow import UnitOfWork


class NotAuthenticated(ChitramError):
    """Only somebody who is signed in may do this."""

    code = "NOT_AUTHENTICATED"
    category = Category.UNAUTHENTICATED
    default_message = "Sign in to do this."


class TokenExpired(ChitramError):
    """The access token or API key was good once."""

    code = "TOKEN_EXPIRED"
    category = Category.UNAUTHENTICATED
    default_message = "The token has expired."


class InvalidToken(ChitramError):
    """The access token or API key is none of ours, or was revoked."""

    code = "INVALID_TOKEN"
    category = Category.UNAUTHENTICATED
    default_message = "The token is not valid."


class Forbidden(ChitramError):
    """Whoever is signed in may not do this."""

    code = "FORBIDDEN"
    category = Category.FORBIDDEN
    default_message = "This account may not do that."


class QuotaExceeded(ChitramError):
    """The account has no room for one more image of this size."""

    code = "QUOTA_EXCEEDED"
    category = Category.FORBIDDEN
    default_message = "The account has no room for this image."


class Scope(StrEnum):
    """What an API key may be used for. Whoever is signed in may do all that their account may."""

    READ = "images:read"
    WRITE = "images:write"
    ADMIN = "admin"


ALL_SCOPES: Final = frozenset(Scope)


class Principal(msgspec.Struct, frozen=True):
    """Whoever makes a request.

    Attributes:
        user_id: None for anyone who is not signed in.
        is_admin: whether the account is an administrator's and the credentials may be used so.
        scopes: what the credentials may be used for.
        session_id: the session of an access token.
        api_key_id: the API key, if one was used.
    """

    user_id: UUID | None = None
    is_admin: bool = False
    scopes: frozenset[Scope] = ALL_SCOPES
    session_id: UUID | None = None
    api_key_id: UUID | None = None

    @property
    def viewer_id(self) -> UUID | None:
        """Whose private images these credentials may show."""
        return self.user_id if Scope.READ in self.scopes else None

    def require(self, scope: Scope) -> UUID:
        """The account, if these credentials may be used for `scope`.

        Raises `NotAuthenticated` for the anonymous, and `Forbidden`.
        """
        if self.user_id is None:
            raise NotAuthenticated
        if scope not in self.scopes:
            raise Forbidden(details={"scope": scope.value})
        return self.user_id


ANONYMOUS = Principal()


class Authenticator(Protocol):
    """Says who makes a request."""

    async def principal(self, authorization: str | None, api_key: str | None) -> Principal:
        """Read the `Authorization` and `X-API-Key` header fields of a request.

        Raises `InvalidToken`, `TokenExpired` and `DatabaseUnavailable`: credentials that are no good
        are refused, also where none are needed.
        """
        ...


async def principal_of(headers: Mapping[str, str], authenticator: Authenticator) -> Principal:
    """Say who makes a request with these header fields, whose names are found in any case."""
    return await authenticator.principal(headers.get("authorization"), headers.get("x-api-key"))


class Quotas(Protocol):
    """What the images of each account take up, exactly, inside the caller's transaction."""

    async def charge(self, transaction: UnitOfWork, user_id: UUID, byte_size: int) -> None:
        """Count one more image of `byte_size` bytes.

        Locks the account's row until the transaction ends; blobs are locked before it, never
        after. Raises `QuotaExceeded`.
        """
        ...

    async def release(self, transaction: UnitOfWork, user_id: UUID, byte_size: int) -> None:
        """Count one image of `byte_size` bytes less."""
        ...


class AuditLog(Protocol):
    """What administrators did, written in the transaction that does it."""

    async def record(
        self,
        transaction: UnitOfWork,
        *,
        actor: Principal,
        action: str,
        subject: str,
        details: Mapping[str, str | int | bool | None] | None = None,
    ) -> None:
        """Write one line: who did what to whom or what, such as `image.delete` to `image:<id>`."""
        ...

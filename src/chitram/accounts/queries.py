"""What is read of accounts, and the views that reading returns."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol
from uuid import UUID

import msgspec

from chitram.accounts.domain.principal import Scope


class SessionView(msgspec.Struct, frozen=True, kw_only=True):
    """What a request with an access token has to know of its session and its account.

    Attributes:
        session_id: the session.
        user_id: whose it is.
        is_active: whether the account is.
        is_admin: whether the account is an administrator's.
        expires_at: when the session ends unless it is renewed before; what is remembered of one that
            seems over may be outdated.
        revoked: whether it was ended: by signing out, by an administrator, or by a stolen token.
    """

    session_id: UUID
    user_id: UUID
    is_active: bool
    is_admin: bool
    expires_at: datetime
    revoked: bool


class SessionQueries(Protocol):
    """Reads sessions, from the primary."""

    async def find(self, session_id: UUID) -> SessionView | None:
        """The session as it is now; None when it never was or was cleared away since."""
        ...


class ApiKeyView(msgspec.Struct, frozen=True, kw_only=True):
    """What a request with an API key has to know of the key and its account."""

    key_id: UUID
    user_id: UUID
    is_active: bool
    is_admin: bool
    scopes: frozenset[Scope]
    expires_at: datetime | None


class ApiKeyQueries(Protocol):
    """Reads API keys, from the primary."""

    async def find(self, key_hash: bytes) -> ApiKeyView | None:
        """The key as it is now, by its SHA-256; None when there is none or was removed since."""
        ...


class ListedApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key as its owner sees it. `hint` is its beginning; `last_used_at` is exact to the minute."""

    id: UUID
    name: str
    hint: str
    scopes: frozenset[Scope]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None


class ApiKeyLists(Protocol):
    """Lists API keys, from the primary."""

    async def newest(self, user_id: UUID, before: UUID | None, limit: int) -> list[ListedApiKey]:
        """The newest keys of an account, those made before another key where one is given."""
        ...


class CredentialQueries(Protocol):
    """Reads what proves to be an account, from the primary."""

    async def of_account(self, user_id: UUID, limit: int) -> tuple[list[UUID], list[bytes]]:
        """Sessions that are not over, ended ones too, and hashes of API keys; `limit` of each at most."""
        ...


class AccountView(msgspec.Struct, frozen=True, kw_only=True):
    """An account as its owner sees it. Bytes and images; a quota of None is without a limit."""

    id: UUID
    email: str
    is_active: bool
    is_admin: bool
    created_at: datetime
    used_bytes: int
    used_images: int
    quota_bytes: int | None
    quota_images: int | None


class AccountQueries(Protocol):
    """Reads accounts, from the primary."""

    async def find(self, user_id: UUID) -> AccountView | None: ...


class AuditView(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the audit log; whoever has the command line is no `actor_id`."""

    at: datetime
    actor_id: UUID | None
    action: str
    subject: str
    details: dict[str, str | int | bool | None]


class AuditQueries(Protocol):
    """Reads the audit log, from the primary."""

    async def newest(self, limit: int, subject: str | None = None) -> list[AuditView]:
        """The newest lines, of one subject if one is given, newest first."""
        ...

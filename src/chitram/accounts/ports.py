"""What accounts need from outside."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Protocol
from uuid import UUID

import msgspec

from chitram.accounts.domain.principal import Principal
from chitram.kernel.uow import UnitOfWork


class Claims(msgspec.Struct, frozen=True, kw_only=True):
    """What a good access token says. Times are those of its making and its end."""

    user_id: UUID
    session_id: UUID
    token_id: UUID
    issued_at: datetime
    expires_at: datetime


class AccessTokens(Protocol):
    """Short-lived proofs that a session was open."""

    def issue(self, user_id: UUID, session_id: UUID) -> tuple[str, int]:
        """Make a token; returns it and its life in seconds."""
        ...

    def read(self, token: str) -> Claims:
        """Check a token of any length and content.

        Raises `TokenExpired` for one that was good once and `InvalidToken` for any other.
        """
        ...


class SessionCache(Protocol):
    """What is remembered of sessions outside the database."""

    async def forget(self, session_id: UUID) -> None:
        """See to it that a change of this session holds from now on; called after the commit.

        Never raises: an implementation that cannot confirm it finds another way.
        """
        ...


class Quotas(Protocol):
    """What the images of each account take up, exactly, inside the caller's transaction."""

    async def charge(self, transaction: UnitOfWork, user_id: UUID, byte_size: int) -> None:
        """Count one more image of `byte_size` bytes.

        Locks the account's row until the transaction ends; blobs are locked before it, never
        after. Raises `QuotaExceeded` with what is used and allowed, and `InvalidToken` when there
        is no such account.
        """
        ...

    async def release(self, transaction: UnitOfWork, user_id: UUID, byte_size: int) -> None:
        """Count one image of `byte_size` bytes less; never below nothing, which would be logged."""
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
        """Write one line: who did what to whom or what, such as `image.delete` to `image:<id>`.

        The anonymous actor is whoever has the command line.
        """
        ...

"""Opening a session: what registering and signing in share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import TypeVar
from uuid import UUID

import msgspec

from chitram.accounts.domain.session import Session, hash_refresh_token, new_refresh_token
from chitram.accounts.domain.user import User
from chitram.accounts.domain.work import FORGET_CREDENTIALS, SESSION_ID
from chitram.accounts.ports import (
    AccessTokens,
    AccountsUnitOfWork,
    AccountTransactions,
    SessionCache,
    SignInLimit,
)
from chitram.kernel.clock import Clock
from chitram.kernel.errors import CommitUncertain
from chitram.kernel.ids import new_id

T = TypeVar("T")


class SessionRules(msgspec.Struct, frozen=True):
    """What holds for all sessions.

    Attributes:
        life: how long one lasts without being renewed.
        most: how many an account may have open; the least recently used makes room.
    """

    life: timedelta
    most: int = 50


class SignedIn(msgspec.Struct, frozen=True, kw_only=True):
    """An account and the tokens of its session. `expires_in` is the access token's life in seconds."""

    user: User
    access_token: str
    expires_in: int
    refresh_token: str


class Opening(msgspec.Struct, frozen=True):
    """A session to be opened, and the first refresh token that prolongs it."""

    session: Session
    refresh_token: str


class SessionOpener:
    """Opens sessions in the transactions of others."""

    def __init__(
        self,
        transactions: AccountTransactions,
        tokens: AccessTokens,
        cache: SessionCache,
        limit: SignInLimit,
        clock: Clock,
        rules: SessionRules,
    ) -> None:
        self._transactions = transactions
        self._tokens = tokens
        self._cache = cache
        self._limit = limit
        self._clock = clock
        self._rules = rules

    def prepare(self, user_id: UUID, client: str | None) -> Opening:
        """Make id and token of a session; `client` is who opens it to rate limits."""
        now = self._clock.now()
        session = Session(
            id=new_id(now),
            user_id=user_id,
            created_at=now,
            last_used_at=now,
            expires_at=now + self._rules.life,
            origin=self._limit.origin(client) if client else None,
        )
        return Opening(session, new_refresh_token())

    async def open(self, transaction: AccountsUnitOfWork, opening: Opening) -> Sequence[UUID]:
        """Add the session of an account that is locked; returns those that were revoked for it."""
        session = opening.session
        await transaction.sessions.add(session)
        token_hash = hash_refresh_token(opening.refresh_token)
        await transaction.sessions.add_token(session.id, token_hash, session.created_at)
        revoked = await transaction.sessions.revoke_but_newest(
            session.user_id, self._rules.most, session.created_at
        )
        for session_id in revoked:
            await transaction.outbox.add(FORGET_CREDENTIALS, {SESSION_ID: str(session_id)})
        return revoked

    async def signed_in(self, user: User, opening: Opening, opened: Awaitable[Sequence[UUID]]) -> SignedIn:
        """Wait for the transaction that opens the session, and say what its owner is told."""
        for superfluous in await committed(opened, lambda: self._revoked(opening)):
            await self._cache.forget(superfluous)
        access_token, expires_in = self._tokens.issue(user.id, opening.session.id)
        return SignedIn(
            user=user,
            access_token=access_token,
            expires_in=expires_in,
            refresh_token=opening.refresh_token,
        )

    async def _revoked(self, opening: Opening) -> Sequence[UUID] | None:
        """None unless the session is there. What made room for it, the outbox has."""
        session = opening.session
        async with self._transactions.begin() as transaction:
            if await transaction.sessions.get(session.id) is None:
                return None
            return ()


async def committed(transaction: Awaitable[T], happened: Callable[[], Awaitable[T | None]]) -> T:
    """Wait for a transaction; when the answer to its COMMIT is lost, look whether it happened.

    Raises `CommitUncertain` when it did not, or that cannot be known.
    """
    try:
        return await transaction
    except CommitUncertain as error:
        # A server that was waited for in vain is not asked again.
        result = None if error.timed_out else await happened()
        if result is None:
            raise
        return result

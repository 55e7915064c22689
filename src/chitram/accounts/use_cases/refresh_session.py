"""Refresh: prolong a session, and exchange its refresh token for a new one."""

from __future__ import annotations

from uuid import UUID

import msgspec

from chitram.accounts.domain.errors import InvalidToken, TokenExpired
from chitram.accounts.domain.session import hash_refresh_token, new_refresh_token
from chitram.accounts.domain.user import User
from chitram.accounts.ports import AccessTokens, AccountTransactions
from chitram.accounts.use_cases.end_session import EndSession, EndSessionCommand
from chitram.accounts.use_cases.opening import SessionRules, SignedIn, committed
from chitram.kernel.clock import Clock


class RefreshCommand(msgspec.Struct, frozen=True):
    """The refresh token that was handed out last."""

    refresh_token: str


class _Renewed(msgspec.Struct, frozen=True):
    user: User
    session_id: UUID


class _Reused(msgspec.Struct, frozen=True):
    session_id: UUID


class RefreshSession:
    """Whoever has the refresh token that was handed out last may, for as long as the session lives.

    Raises `TokenExpired` when the session was not renewed in time, and `InvalidToken` for any other
    token. One that was used before tells that two have it, one of whom stole it: the session is
    ended, which is committed before the refusal. Of two that come at once with one token the first
    renews, and the second counts as its reuse.

    When the answer to the COMMIT is lost, the new token is looked for, and handed out if it is
    there. After a `DatabaseUnavailable` the old token may be used up all the same, so that trying
    again ends the session; signing in again is all that it takes then.
    """

    def __init__(
        self,
        transactions: AccountTransactions,
        tokens: AccessTokens,
        end_session: EndSession,
        clock: Clock,
        rules: SessionRules,
    ) -> None:
        self._transactions = transactions
        self._tokens = tokens
        self._end_session = end_session
        self._clock = clock
        self._rules = rules

    async def __call__(self, command: RefreshCommand) -> SignedIn:
        token = new_refresh_token()
        old, new = hash_refresh_token(command.refresh_token), hash_refresh_token(token)
        outcome = await committed(self._exchange(old, new), lambda: self._exchanged(new))
        if isinstance(outcome, _Reused):
            await self._end_session(EndSessionCommand(outcome.session_id))
            raise InvalidToken
        access_token, expires_in = self._tokens.issue(outcome.user.id, outcome.session_id)
        return SignedIn(
            user=outcome.user, access_token=access_token, expires_in=expires_in, refresh_token=token
        )

    async def _exchange(self, old: bytes, new: bytes) -> _Renewed | _Reused:
        async with self._transactions.begin() as transaction:
            found = await transaction.sessions.lock_by_token(old)
            if found is None or found[0].revoked_at is not None:
                raise InvalidToken
            session, used_at = found
            now = self._clock.now()
            if session.expires_at <= now:
                raise TokenExpired
            if used_at is not None:
                return _Reused(session.id)
            user = await transaction.users.get(session.user_id)
            if user is None or not user.is_active:
                raise InvalidToken
            await transaction.sessions.use_token(old, now)
            await transaction.sessions.add_token(session.id, new, now)
            await transaction.sessions.prolong(session.id, now, now + self._rules.life)
            await transaction.commit()
        return _Renewed(user, session.id)

    async def _exchanged(self, new: bytes) -> _Renewed | None:
        """What an exchange came to whose answer was lost; None when its token is not there."""
        async with self._transactions.begin() as transaction:
            found = await transaction.sessions.lock_by_token(new)
            user = await transaction.users.get(found[0].user_id) if found else None
        return _Renewed(user, found[0].id) if found and user else None

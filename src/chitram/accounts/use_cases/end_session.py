"""End a session for good."""

from __future__ import annotations

from uuid import UUID

import msgspec

from chitram.accounts.domain.work import FORGET_CREDENTIALS, SESSION_ID
from chitram.accounts.ports import AccountTransactions, SessionCache
from chitram.accounts.use_cases.forgetting import then_forgotten
from chitram.kernel.clock import Clock


class EndSessionCommand(msgspec.Struct, frozen=True):
    """The session of whoever asks."""

    session_id: UUID


class EndSession:
    """Whoever has an access token of the session may; any number of times.

    Once it returns, neither its access tokens nor its refresh tokens are good for anything.
    """

    def __init__(self, transactions: AccountTransactions, cache: SessionCache, clock: Clock) -> None:
        self._transactions = transactions
        self._cache = cache
        self._clock = clock

    async def __call__(self, command: EndSessionCommand) -> None:
        session_id = command.session_id
        async with (
            then_forgotten(lambda: self._cache.forget(session_id)),
            self._transactions.begin() as transaction,
        ):
            if await transaction.sessions.revoke(session_id, self._clock.now()):
                await transaction.outbox.add(FORGET_CREDENTIALS, {SESSION_ID: str(session_id)})
            await transaction.commit()

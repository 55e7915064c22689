"""End a session for good."""

from __future__ import annotations

from uuid import UUID

import msgspec

from chitram.accounts.domain.work import FORGET_CREDENTIALS, SESSION_ID
from chitram.accounts.ports import AccountTransactions, SessionCache
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
        try:
            async with self._transactions.begin() as transaction:
                if await transaction.sessions.revoke(command.session_id, self._clock.now()):
                    await transaction.outbox.add(FORGET_CREDENTIALS, {SESSION_ID: str(command.session_id)})
                await transaction.commit()
        finally:
            # Also when it is not known whether it was committed: what is read next is the truth.
            await self._cache.forget(command.session_id)

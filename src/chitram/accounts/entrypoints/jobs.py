"""What the worker does for accounts."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from chitram.accounts.domain.work import FORGET_CREDENTIALS, KEY_HASH, SESSION_ID, USER_ID
from chitram.accounts.ports import SessionCache
from chitram.kernel.errors import DatabaseUnavailable
from chitram.platform.background import Job
from chitram.platform.database import SqlUnitOfWork
from chitram.platform.outbox import OutboxEntry, Relay
from chitram.platform.queue import QueueName


class ForgetCredentialsJob(Job):
    """Settles `credentials.forget` entries: what was ended or changed is remembered by no cache.

    Who changed it has seen to that already, unless its process ended in between.
    """

    kind = FORGET_CREDENTIALS
    queue = QueueName.URGENT
    seconds = 10.0

    def __init__(self, cache: SessionCache, sessions: async_sessionmaker[AsyncSession], relay: Relay) -> None:
        self._cache = cache
        self._sessions = sessions
        self._relay = relay

    async def __call__(self, entry: OutboxEntry) -> None:
        payload = entry.payload
        forgotten = True
        if session_id := payload.get(SESSION_ID):
            forgotten = await self._cache.forget(UUID(session_id))
        if key_hash := payload.get(KEY_HASH):
            forgotten &= await self._cache.forget_key(bytes.fromhex(key_hash))
        if user_id := payload.get(USER_ID):
            forgotten &= await self._cache.forget_account(UUID(user_id))
        if not forgotten:
            raise DatabaseUnavailable
        async with SqlUnitOfWork(self._sessions, self._relay) as transaction:
            await transaction.outbox.done(entry.id)
            await transaction.commit()

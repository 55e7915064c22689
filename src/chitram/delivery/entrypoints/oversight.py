"""Writing down what administrators see of what is not theirs, before they see it."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from chitram.accounts.public import AuditLog, Principal
from chitram.images.public import ImageView, record_oversight
from chitram.platform.database import SqlUnitOfWork
from chitram.platform.outbox import Relay


class Oversight:
    """One line in the audit log for each request of an administrator; nothing for others.

    Raises `DatabaseUnavailable`: what cannot be written down is not shown.
    """

    def __init__(self, audit: AuditLog, sessions: async_sessionmaker[AsyncSession], relay: Relay) -> None:
        self._audit = audit
        self._sessions = sessions
        self._relay = relay

    async def record(self, viewer: Principal, action: str, view: ImageView, **details: str) -> None:
        """Write down that an administrator did something to an image, unless it is theirs."""
        if not viewer.is_admin:
            return
        async with SqlUnitOfWork(self._sessions, self._relay) as transaction:
            await record_oversight(
                self._audit,
                transaction,
                viewer,
                action,
                image_id=view.id,
                owner_id=view.owner_id,
                **details,
            )
            await transaction.commit()

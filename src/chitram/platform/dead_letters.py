"""Dead letters: outbox entries that were given up, kept with their error for an administrator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

import msgspec
from sqlalchemy import Delete, Update, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from chitram.platform.outbox import OutboxEntry, OutboxRow, entry_of


class DeadLetter(msgspec.Struct, frozen=True):
    """An entry that was given up: what was to be done to what, how often it was tried, and why not."""

    id: UUID
    kind: str
    payload: Mapping[str, str]
    attempts: int
    error: str
    since: datetime


class DeadLetters:
    """The dead letters inside one transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def list(self, limit: int) -> Sequence[DeadLetter]:
        """The oldest of them."""
        rows = await self._session.scalars(
            select(OutboxRow).where(OutboxRow.dead_at.is_not(None)).order_by(OutboxRow.id).limit(limit)
        )
        return [
            DeadLetter(row.id, row.kind, row.payload, row.attempts, row.last_error or "", row.dead_at)
            for row in rows
            if row.dead_at is not None
        ]

    async def find(self, entry_id: UUID) -> OutboxEntry | None:
        """One of them; None when there is none of this id."""
        row = await self._session.get(OutboxRow, entry_id)
        return None if row is None or row.dead_at is None else entry_of(row)

    async def ids(self) -> Sequence[UUID]:
        """Ids of all of them, the oldest first."""
        found = select(OutboxRow.id).where(OutboxRow.dead_at.is_not(None)).order_by(OutboxRow.id)
        return (await self._session.scalars(found)).all()

    async def revive(self, entry_id: UUID) -> bool:
        """Give one a fresh start; False when there is none of this id."""
        afresh = {"dead_at": None, "attempts": 0, "failures": 0, "run_after": func.now(), "enqueued_at": None}
        return await self._change(update(OutboxRow).values(afresh), entry_id)

    async def drop(self, entry_id: UUID) -> bool:
        """Forget one, with what it owed; False when there is none of this id."""
        return await self._change(delete(OutboxRow), entry_id)

    async def _change(self, change: Update | Delete, entry_id: UUID) -> bool:
        chosen = change.where(OutboxRow.dead_at.is_not(None), OutboxRow.id == entry_id)
        return (await self._session.scalar(chosen.returning(OutboxRow.id))) is not None

"""The outbox table: what committed changes still owe, and how it is handed to the queue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol, cast
from uuid import UUID

import msgspec
from advanced_alchemy.base import DefaultBase
from sqlalchemy import Index, Integer, Text, delete, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP
from sqlalchemy.dialects.postgresql import UUID as PG_UUID
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from chitram.kernel.ids import new_id

# An entry that was handed to the queue this long ago and is still not done is handed over again.
REQUEUE_AFTER = timedelta(seconds=30)
_FIRST_BACKOFF_SECONDS = 2
_LONGEST_BACKOFF_SECONDS = 600
_ERROR_CHARACTERS = 2000


class OutboxRow(DefaultBase):
    """One piece of work owed."""

    __tablename__ = "outbox"

    id: Mapped[UUID] = mapped_column(PG_UUID(as_uuid=True), primary_key=True)
    kind: Mapped[str] = mapped_column(Text)
    payload: Mapped[dict[str, str]] = mapped_column(JSONB)
    created_at: Mapped[datetime] = mapped_column(TIMESTAMP(timezone=True), server_default=func.now())
    run_after: Mapped[datetime] = mapped_column(TIMESTAMP(timezone=True), server_default=func.now())
    enqueued_at: Mapped[datetime | None] = mapped_column(TIMESTAMP(timezone=True))
    attempts: Mapped[int] = mapped_column(Integer, server_default="0")
    # Of the attempts those that failed by themselves, not for something that was away.
    failures: Mapped[int] = mapped_column(Integer, server_default="0")
    last_error: Mapped[str | None] = mapped_column(Text)
    dead_at: Mapped[datetime | None] = mapped_column(TIMESTAMP(timezone=True))

    __table_args__ = (
        Index("ix_outbox_kind_run_after", "kind", "run_after", postgresql_where=text("dead_at IS NULL")),
        Index(
            "ix_outbox_payload",
            "payload",
            postgresql_using="gin",
            postgresql_ops={"payload": "jsonb_path_ops"},
        ),
    )


class OutboxEntry(msgspec.Struct, frozen=True):
    """An entry as the queue and its handlers see it; `failures` are those before this attempt."""

    id: UUID
    kind: str
    payload: Mapping[str, str] = {}
    failures: int = 0


class DeadEntry(msgspec.Struct, frozen=True):
    """An entry that was given up, for an administrator."""

    id: UUID
    kind: str
    attempts: int
    last_error: str
    dead_at: datetime


class Relay(Protocol):
    """Tells the queue, soon and without ever failing, what a commit owes."""

    def notify(self, entries: Sequence[OutboxEntry]) -> None: ...


class LeftToSweep:
    """Tells nobody: a worker finds what is owed by itself."""

    def notify(self, entries: Sequence[OutboxEntry]) -> None: ...


class SqlOutbox:
    """The outbox inside one transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session
        self.added: list[OutboxEntry] = []

    async def add(self, kind: str, payload: Mapping[str, str], *, delay: timedelta | None = None) -> UUID:
        entry = OutboxEntry(id=new_id(datetime.now(UTC)), kind=kind, payload=payload)
        row = OutboxRow(id=entry.id, kind=kind, payload=dict(payload))
        self._session.add(row)
        if delay is None:
            self.added.append(entry)
        else:
            # By the clock that says what is due. The sweep hands it over then.
            row.run_after = cast("datetime", func.now() + delay)
        return entry.id

    async def owes(self, kind: str, payload: Mapping[str, str]) -> bool:
        # Not LIMIT 1: it makes PostgreSQL hope for an early row of the table rather than ask the index.
        found = select(OutboxRow.id).where(OutboxRow.kind == kind, OutboxRow.payload.contains(dict(payload)))
        return (await self._session.scalars(found)).first() is not None

    async def count_by(self, kind: str, name: str) -> dict[str, int]:
        """Count the undone rows of `kind`, given up or not, by what their payload holds as `name`."""
        value = OutboxRow.payload[name].as_string()
        rows = await self._session.execute(
            select(value, func.count()).where(OutboxRow.kind == kind).group_by(value)
        )
        return {held: count for held, count in rows if held is not None}

    async def done(self, entry_id: UUID) -> None:
        await self._session.execute(delete(OutboxRow).where(OutboxRow.id == entry_id))

    async def discard(self, kind: str, payload: Mapping[str, str]) -> None:
        await self._session.execute(
            delete(OutboxRow).where(OutboxRow.kind == kind, OutboxRow.payload.contains(dict(payload)))
        )

    async def find(self, entry_id: UUID) -> OutboxEntry | None:
        """Read an entry that is neither done nor dead."""
        row = await self._session.get(OutboxRow, entry_id)
        if row is None or row.dead_at is not None:
            return None
        return OutboxEntry(id=entry_id, kind=row.kind, payload=row.payload, failures=row.failures)

    async def due(self, kinds: Sequence[str], limit: int) -> list[OutboxEntry]:
        """Entries that should be in the queue now and may not be, oldest first."""
        rows = await self._session.execute(
            select(OutboxRow.id, OutboxRow.kind)
            .where(
                OutboxRow.dead_at.is_(None),
                OutboxRow.kind.in_(kinds),
                OutboxRow.run_after <= func.now(),
                or_(
                    OutboxRow.enqueued_at.is_(None),
                    OutboxRow.enqueued_at < func.now() - REQUEUE_AFTER,
                ),
            )
            .order_by(OutboxRow.run_after)
            .limit(limit)
        )
        return [OutboxEntry(id=row.id, kind=row.kind) for row in rows]

    async def mark_enqueued(self, ids: Sequence[UUID]) -> None:
        """Remember that the queue has these; a hint that spares it repeats."""
        await self._session.execute(
            update(OutboxRow).where(OutboxRow.id.in_(ids)).values(enqueued_at=func.now())
        )

    async def dead(self, limit: int) -> list[DeadEntry]:
        """Entries that were given up, oldest first."""
        rows = await self._session.scalars(
            select(OutboxRow).where(OutboxRow.dead_at.is_not(None)).order_by(OutboxRow.id).limit(limit)
        )
        return [
            DeadEntry(row.id, row.kind, row.attempts, row.last_error or "", row.dead_at)
            for row in rows
            if row.dead_at is not None
        ]

    async def requeue_dead(self) -> int:
        """Give every entry that was given up a fresh start; return how many there were."""
        revived = await self._session.scalars(
            update(OutboxRow)
            .where(OutboxRow.dead_at.is_not(None))
            .values(dead_at=None, attempts=0, failures=0, run_after=func.now(), enqueued_at=None)
            .returning(OutboxRow.id)
        )
        return len(revived.all())

    async def failed(self, entry_id: UUID, error: str, *, counts: bool, is_last: bool = False) -> None:
        """Record a failed attempt and set the time of the next, unless it was the last.

        Args:
            entry_id: what was attempted.
            error: what an administrator may read.
            counts: whether it counts among those after which an entry is given up.
            is_last: give it up.
        """
        row = await self._session.get(OutboxRow, entry_id, with_for_update=True)
        if row is None:
            return
        row.attempts += 1
        row.failures += counts
        row.last_error = error[:_ERROR_CHARACTERS]
        row.enqueued_at = None
        row.run_after = datetime.now(UTC) + backoff(row.attempts)
        if is_last:
            row.dead_at = datetime.now(UTC)


def backoff(attempts: int) -> timedelta:
    """Time to wait after the `attempts`-th failure: doubling from 2 s up to 10 minutes."""
    doublings = min(attempts - 1, _LONGEST_BACKOFF_SECONDS.bit_length())
    return timedelta(seconds=min(_FIRST_BACKOFF_SECONDS << doublings, _LONGEST_BACKOFF_SECONDS))

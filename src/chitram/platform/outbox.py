"""The outbox table: what committed changes still owe, and how it is handed to the queue."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol, cast
from uuid import UUID

import msgspec
from advanced_alchemy.base import DefaultBase
from sqlalchemy import (
    ColumnElement,
    Index,
    Integer,
    Select,
    Text,
    and_,
    delete,
    func,
    literal,
    or_,
    select,
    text,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TIMESTAMP
from sqlalchemy.dialects.postgresql import UUID as PG_UUID
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, aliased, mapped_column

from chitram.kernel.ids import new_id

# An entry that was handed to the queue this long ago, and that nobody has taken up, is handed over
# again. Only for what nothing else finds: a queue that was emptied and a worker that died are noticed.
REQUEUE_AFTER = timedelta(seconds=60)


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
    leased_by: Mapped[UUID | None] = mapped_column(PG_UUID(as_uuid=True))
    leased_until: Mapped[datetime | None] = mapped_column(TIMESTAMP(timezone=True))
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
        Index("ix_outbox_dead", "id", postgresql_where=text("dead_at IS NOT NULL")),
    )


_GIVEN_UP_OR_NOT = (OutboxRow.dead_at.is_(None), OutboxRow.dead_at.is_not(None))


class OutboxEntry(msgspec.Struct, frozen=True):
    """An entry as the queue and its handlers see it.

    Attributes:
        failures: of earlier attempts, as far as they count.
        is_abandoned: a worker took it up and has not been heard of since.
    """

    id: UUID
    kind: str
    payload: Mapping[str, str] = {}
    failures: int = 0
    is_abandoned: bool = False


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

    async def owes(self, payload: Mapping[str, str], *kinds: str) -> bool:
        # Not LIMIT 1: it makes PostgreSQL hope for an early row of the table rather than ask the index.
        found = select(OutboxRow.id).where(
            OutboxRow.kind.in_(kinds), OutboxRow.payload.contains(dict(payload))
        )
        return (await self._session.scalars(found)).first() is not None

    async def count_by(self, kind: str, name: str) -> dict[str, int]:
        """Count the undone rows of `kind`, given up or not, by what their payload holds as `name`."""
        value = OutboxRow.payload[name].as_string()
        # There is an index of each of the two, none of both.
        either = or_(*(and_(OutboxRow.kind == kind, given_up) for given_up in _GIVEN_UP_OR_NOT))
        rows = await self._session.execute(select(value, func.count()).where(either).group_by(value))
        return {held: count for held, count in rows if held is not None}

    async def done(self, entry_id: UUID) -> None:
        await self._session.execute(delete(OutboxRow).where(OutboxRow.id == entry_id))

    async def discard(self, payload: Mapping[str, str], *kinds: str) -> None:
        await self._session.execute(
            delete(OutboxRow).where(OutboxRow.kind.in_(kinds), OutboxRow.payload.contains(dict(payload)))
        )

    async def due(
        self, kinds: Collection[str], limit: int, *, queue_lost_at: datetime | None = None
    ) -> list[OutboxEntry]:
        """Entries that should be in the queue now and may not be, oldest first.

        Args:
            kinds: of entries.
            limit: most of them.
            queue_lost_at: what was handed over before has been forgotten, as far as is known.
        """
        forgotten = func.now() - REQUEUE_AFTER if queue_lost_at is None else queue_lost_at
        wanted = (
            func.unnest(literal([*kinds], ARRAY(Text))).table_valued("kind", name="wanted").render_derived()
        )
        # Of each kind the index gives the first; of all of them together it would give every one.
        of_kind = (
            select(OutboxRow)
            .where(
                OutboxRow.dead_at.is_(None),
                OutboxRow.kind == wanted.c.kind,
                OutboxRow.run_after <= func.now(),
                is_free(),
                or_(
                    OutboxRow.leased_until.is_not(None),
                    OutboxRow.enqueued_at.is_(None),
                    OutboxRow.enqueued_at < forgotten,
                ),
            )
            .order_by(OutboxRow.run_after)
            .limit(limit)
            .lateral()
        )
        due = aliased(OutboxRow, of_kind)
        rows = await self._session.scalars(
            select(due).select_from(wanted).join(of_kind, true()).order_by(of_kind.c.run_after).limit(limit)
        )
        return [entry_of(row) for row in rows]

    async def mark_enqueued(self, ids: Collection[UUID]) -> None:
        """Remember that the queue has these; a hint that spares it repeats. Ends leases that ran out.

        Not of what was taken and has failed since: it is handed over again when it is due.
        """
        await self._session.execute(
            update(OutboxRow)
            .where(OutboxRow.id.in_(unlocked(ids)), OutboxRow.run_after <= func.now(), is_free())
            .values(enqueued_at=func.now(), leased_by=None, leased_until=None)
        )

    async def forget_enqueued(self, ids: Collection[UUID]) -> None:
        """Take back `mark_enqueued`, except for what a worker is at."""
        await self._session.execute(
            update(OutboxRow).where(OutboxRow.id.in_(unlocked(ids)), is_free()).values(enqueued_at=None)
        )


def is_free() -> ColumnElement[bool]:
    """Whether no worker is known to be at a row."""
    return or_(OutboxRow.leased_until.is_(None), OutboxRow.leased_until < func.now())


def unlocked(ids: Collection[UUID]) -> Select[UUID]:
    """Lock those of `ids` that nobody is changing: updates of many never wait for each other."""
    return select(OutboxRow.id).where(OutboxRow.id.in_(ids)).with_for_update(skip_locked=True)


def entry_of(row: OutboxRow) -> OutboxEntry:
    """What others see of a row."""
    return OutboxEntry(
        id=row.id,
        kind=row.kind,
        payload=row.payload,
        failures=row.failures,
        is_abandoned=row.leased_until is not None,
    )

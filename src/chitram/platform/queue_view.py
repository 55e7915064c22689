"""The state of the background work, for administrators: the outbox says what is so, Valkey what was done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from sqlalchemy import case, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from valkey.asyncio import Valkey

from chitram.platform.outbox import OutboxRow
from chitram.platform.queue import QueueName
from chitram.platform.tally import Outcome, count_workers, read_tally

RATE_MINUTES = 5


class QueueView(msgspec.Struct, frozen=True, kw_only=True):
    """One queue.

    Attributes:
        name: of the queue; None for work that this version does not know.
        waiting: entries that could be done now.
        active: entries that a worker is at.
        later: entries whose time has not come, after a failure or by intention.
        dead: entries that were given up.
        oldest_seconds: age of the oldest of those that wait or are active.
    """

    name: str | None
    waiting: int = 0
    active: int = 0
    later: int = 0
    dead: int = 0
    oldest_seconds: float | None = None


class WorkView(msgspec.Struct, frozen=True, kw_only=True):
    """What workers did lately: how many there are, and attempts per minute by queue and outcome."""

    workers: int
    per_minute: Mapping[tuple[QueueName, Outcome], float]


async def read_queues(session: AsyncSession, kinds: Mapping[str, QueueName]) -> Sequence[QueueView]:
    """Every queue in the order of urgency; raises what the database raises."""
    name = case(kinds, value=OutboxRow.kind)
    is_active = OutboxRow.leased_until >= func.now()
    is_open = OutboxRow.dead_at.is_(None) & is_active.is_not(True)
    is_due = OutboxRow.run_after <= func.now()
    # What was put off by intention is owed only since then.
    since = case((OutboxRow.attempts == 0, OutboxRow.run_after), else_=OutboxRow.created_at)
    rows = await session.execute(
        select(
            name,
            func.count().filter(is_open, is_due),
            func.count().filter(is_active),
            func.count().filter(is_open, ~is_due),
            func.count().filter(OutboxRow.dead_at.is_not(None)),
            func.extract("epoch", func.now() - func.min(since).filter(OutboxRow.dead_at.is_(None), is_due)),
        ).group_by(name)
    )
    found = {
        row[0]: QueueView(
            name=row[0],
            waiting=row[1],
            active=row[2],
            later=row[3],
            dead=row[4],
            oldest_seconds=None if row[5] is None else float(row[5]),
        )
        for row in rows
    }
    known = [found.get(queue.value, QueueView(name=queue.value)) for queue in QueueName]
    return [*known, found[None]] if None in found else known


async def read_work(client: Valkey) -> WorkView:
    """What workers did in the last full minutes; raises `ValkeyError` and `OSError`."""
    counts = await read_tally(client, RATE_MINUTES)
    return WorkView(
        workers=await count_workers(client),
        per_minute={key: number / RATE_MINUTES for key, number in counts.items()},
    )

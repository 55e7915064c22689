"""Attempts at outbox entries: which worker is at one, and how it ended."""

from __future__ import annotations

import random
from collections.abc import Collection
from datetime import timedelta
from uuid import UUID

import msgspec
from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from chitram.platform.outbox import OutboxEntry, OutboxRow, unlocked
from chitram.platform.statements import Statement, Statements

# A worker that has not been heard of for this long is dead. It says every third of that that it is not.
LEASE = timedelta(seconds=10)
_FIRST_BACKOFF_SECONDS = 2
_LONGEST_BACKOFF_SECONDS = 600
_ERROR_CHARACTERS = 2000


TAKE = Statement(
    "take entry",
    """
UPDATE outbox SET leased_by = $3, leased_until = now() + $4
WHERE id = $1 AND kind = ANY($2) AND dead_at IS NULL AND run_after <= now()
    AND (leased_until IS NULL OR leased_until < now())
RETURNING kind, payload, failures
""",
)


async def take(
    statements: Statements, worker: UUID, entry_id: UUID, kinds: Collection[str]
) -> OutboxEntry | None:
    """Begin an attempt; None when it is done, dead, not due, of another kind, or taken by a live worker.

    One round trip, for it is done for every entry; `statements` know `TAKE`. Raises
    `DatabaseUnavailable`, also when the answer was lost: then the lease has to run out.
    """
    row = await statements.commit(TAKE, entry_id, [*kinds], worker, LEASE)
    if row is None:
        return None
    payload = msgspec.json.decode(row["payload"])
    return OutboxEntry(id=entry_id, kind=row["kind"], payload=payload, failures=row["failures"])


class Attempts:
    """The attempts of one worker, inside one transaction.

    Args:
        session: of the transaction.
        worker: id of this run of the worker.
    """

    def __init__(self, session: AsyncSession, worker: UUID) -> None:
        self._session = session
        self._worker = worker

    async def renew(self, ids: Collection[UUID]) -> None:
        """Say that this worker is still at these."""
        await self._session.execute(
            update(OutboxRow)
            .where(OutboxRow.id.in_(unlocked(ids)), OutboxRow.leased_by == self._worker)
            .values(leased_until=func.now() + LEASE)
        )

    async def hand_back(self, entry_id: UUID) -> None:
        """Leave an entry to whoever takes it next, at once, as if it had not been tried."""
        await self._session.execute(
            update(OutboxRow)
            .where(OutboxRow.id == entry_id, OutboxRow.leased_by == self._worker)
            .values(leased_by=None, leased_until=None, enqueued_at=None)
        )

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
        # PostgreSQL takes every character but this one.
        row.last_error = error.replace("\0", "")[:_ERROR_CHARACTERS]
        row.leased_by = row.leased_until = row.enqueued_at = None
        # By the clock that says what is due.
        row.run_after = func.now() + backoff(row.attempts)
        if is_last:
            row.dead_at = func.now()


async def under_way(session: AsyncSession, ids: Collection[UUID]) -> set[UUID]:
    """Those of `ids` that a live worker is at."""
    rows = await session.scalars(
        select(OutboxRow.id).where(OutboxRow.id.in_(ids), OutboxRow.leased_until >= func.now())
    )
    return set(rows)


def backoff(attempts: int) -> timedelta:
    """Time to wait after the `attempts`-th failure: doubling from 2 s up to 10 minutes, with jitter.

    Of each time half is fixed and half is random ("equal jitter" of
    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/): what failed together
    does not come back together, and nothing comes back at once.
    """
    doublings = min(attempts - 1, _LONGEST_BACKOFF_SECONDS.bit_length())
    seconds = min(_FIRST_BACKOFF_SECONDS << doublings, _LONGEST_BACKOFF_SECONDS)
    return timedelta(seconds=seconds / 2 + random.uniform(0, seconds / 2))  # noqa: S311 - no secret

"""The schedule: rounds that are done by the clock, each by one of all workers at a time.

Who does what is agreed through the table `rounds`, so it works without Valkey. A round of a worker
that died is taken up by another as soon as its lease has run out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime, time, timedelta
from typing import Any
from uuid import UUID

import msgspec
import structlog
from advanced_alchemy.base import DefaultBase
from sqlalchemy import Text, func, or_, select, update
from sqlalchemy.dialects.postgresql import TIMESTAMP, insert
from sqlalchemy.dialects.postgresql import UUID as PG_UUID
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column
from valkey.exceptions import ValkeyError

from chitram.kernel.errors import ChitramError
from chitram.platform.attempts import LEASE
from chitram.platform.database import SqlUnitOfWork
from chitram.platform.loops import repeat

# How often a worker looks whether something is due.
TICK_SECONDS = 1.0
# A failed round of the night is tried again after this.
_RETRY = timedelta(minutes=10)
_ERROR_CHARACTERS = 2000

_log = structlog.get_logger("chitram.worker")


class RoundRow(DefaultBase):
    """When a round is due, who is at it, and how it went."""

    __tablename__ = "rounds"

    name: Mapped[str] = mapped_column(Text, primary_key=True)
    next_at: Mapped[datetime] = mapped_column(TIMESTAMP(timezone=True))
    leased_by: Mapped[UUID | None] = mapped_column(PG_UUID(as_uuid=True))
    leased_until: Mapped[datetime | None] = mapped_column(TIMESTAMP(timezone=True))
    done_at: Mapped[datetime | None] = mapped_column(TIMESTAMP(timezone=True))
    last_error: Mapped[str | None] = mapped_column(Text)


class Round(msgspec.Struct, frozen=True):
    """Something to be done by the clock. Stopped anywhere, it has to leave a state to begin again from.

    Attributes:
        name: known to all workers.
        work: does it.
        every: time from the end of one to the next; None for once a night.
        hour: of the night, UTC. A night on which no worker ran is made up for.
    """

    name: str
    work: Callable[[], Awaitable[object]]
    every: timedelta | None = None
    hour: int = 0

    def first(self, now: datetime) -> datetime:
        """When it is due for the first time."""
        return now if self.every is not None else self._next_night(now)

    def following(self, now: datetime, *, failed: bool) -> datetime:
        """When it is due again after having ended at `now`."""
        if self.every is not None:
            return now + self.every
        return now + _RETRY if failed else self._next_night(now)

    def _next_night(self, now: datetime) -> datetime:
        tonight = datetime.combine(now.astimezone(UTC), time(self.hour), UTC)
        return tonight if tonight > now else tonight + timedelta(days=1)


class Schedule:
    """The rounds, as one worker does its share of them."""

    def __init__(self, begin: Callable[[], SqlUnitOfWork], rounds: Iterable[Round], worker: UUID) -> None:
        self._begin = begin
        self._rounds = {each.name: each for each in rounds}
        self._worker = worker
        self._running: dict[str, asyncio.Task[None]] = {}
        self._is_known = False

    async def run_until(self, stop: asyncio.Event, *, grace_seconds: float) -> None:
        """Do what is due until `stop`; what does not end in time after that is left to another worker."""
        await repeat(TICK_SECONDS, "schedule", self._begin_due, stop)
        # Each may be stopped anywhere: what it leaves undone is there for the next.
        if self._running:
            await asyncio.wait(self._running.values(), timeout=grace_seconds)
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def renew(self) -> None:
        """Say that the rounds under way here still are; more often than `LEASE`."""
        if self._running:
            async with self._begin() as transaction:
                mine = RoundRow.name.in_(self._running) & (RoundRow.leased_by == self._worker)
                await transaction.session.execute(
                    update(RoundRow).where(mine).values(leased_until=func.now() + LEASE)
                )
                await transaction.commit()

    async def _begin_due(self) -> None:
        if not self._is_known:
            await self._make_known()
            self._is_known = True
        for name in await self._take_due():
            task = asyncio.create_task(self._do(self._rounds[name]))
            self._running[name] = task
            task.add_done_callback(lambda _, name=name: self._running.pop(name, None))  # type: ignore[misc] # of mypy

    async def _make_known(self) -> None:
        async with self._begin() as transaction:
            now = await _now(transaction.session)
            rows = [{"name": each.name, "next_at": each.first(now)} for each in self._rounds.values()]
            await transaction.session.execute(insert(RoundRow).values(rows).on_conflict_do_nothing())
            await transaction.commit()

    async def _take_due(self) -> list[str]:
        async with self._begin() as transaction:
            names = await transaction.session.scalars(
                update(RoundRow)
                .where(
                    RoundRow.name.in_(self._rounds.keys() - self._running.keys()),
                    RoundRow.next_at <= func.now(),
                    or_(RoundRow.leased_until.is_(None), RoundRow.leased_until < func.now()),
                )
                .values(leased_by=self._worker, leased_until=func.now() + LEASE)
                .returning(RoundRow.name)
            )
            taken = list(names)
            await transaction.commit()
        return taken

    async def _do(self, each: Round) -> None:
        error = None
        try:
            await each.work()
        except asyncio.CancelledError:
            await self._hand_back(each)
            raise
        except (ChitramError, ValkeyError, OSError) as outage:
            error = f"{type(outage).__name__}: {outage}"
            _log.warning("skipped", work=each.name, cause=type(outage).__name__)
        except Exception as unexpected:  # noqa: BLE001 - whatever it is, its next time has to be set
            error = f"{type(unexpected).__name__}: {unexpected}"
            _log.exception("unexpected error", work=each.name)
        await self._end(each, error)

    async def _end(self, each: Round, error: str | None) -> None:
        try:
            async with self._begin() as transaction:
                now = await _now(transaction.session)
                ended: dict[str, Any] = {"next_at": each.following(now, failed=error is not None)}
                ended |= (
                    {"done_at": now, "last_error": None}
                    if error is None
                    else {"last_error": error[:_ERROR_CHARACTERS]}
                )
                await self._release(transaction.session, each, ended)
                await transaction.commit()
        except ChitramError as unrecorded:
            # The lease runs out by itself, and then it is done once more.
            _log.warning("skipped", work=each.name, cause=type(unrecorded).__name__)

    async def _hand_back(self, each: Round) -> None:
        try:
            async with self._begin() as transaction:
                await self._release(transaction.session, each, {})
                await transaction.commit()
        except ChitramError as unrecorded:
            _log.warning("round not handed back", work=each.name, cause=type(unrecorded).__name__)

    async def _release(self, session: AsyncSession, each: Round, values: dict[str, Any]) -> None:
        mine = (RoundRow.name == each.name) & (RoundRow.leased_by == self._worker)
        await session.execute(
            update(RoundRow).where(mine).values(leased_by=None, leased_until=None, **values)
        )


async def _now(session: AsyncSession) -> datetime:
    """The time by the clock that says what is due."""
    now: datetime = (await session.execute(select(func.now()))).scalar_one()
    return now

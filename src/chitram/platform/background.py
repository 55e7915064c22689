"""Background jobs: each settles the outbox entries of one kind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any
from uuid import UUID, uuid4

import structlog

from chitram.kernel.errors import Category, ChitramError, DatabaseUnavailable
from chitram.platform.attempts import Attempts, take
from chitram.platform.database import SqlUnitOfWork
from chitram.platform.outbox import OutboxEntry
from chitram.platform.queue import QueueName
from chitram.platform.statements import Statements
from chitram.platform.tally import Outcome, Tally

_DATABASE_SECONDS = 1.0

_log = structlog.get_logger("chitram.worker")


class Job:
    """Settles the outbox entries of one kind; most need no more of this than its attributes.

    Attributes:
        kind: of the entries.
        queue: where they wait. Work that has to wait for other work of its sort is a kind of its own.
        seconds: longest time for an attempt; then it is cancelled, and has failed.
        attempts: so many may fail before an entry is given up. An outage (`Category.UNAVAILABLE`)
            is waited out, however long it takes.
    """

    kind: str
    queue: QueueName
    seconds: float
    attempts: int = 10

    async def __call__(self, entry: OutboxEntry) -> None:
        """Do what the entry says, and strike it off in the final transaction; safe to be done twice."""
        raise NotImplementedError

    async def given_up(self, entry: OutboxEntry) -> None:
        """Say where it is seen that nobody will try again; before the entry is dead, perhaps twice."""

    async def revived(self, entry: OutboxEntry) -> None:
        """Take that back: an administrator gives the entry a fresh start; perhaps twice."""


class OutboxRunner:
    """Does what outbox entries say, and accounts for every attempt in the outbox itself."""

    def __init__(
        self, begin: Callable[[], SqlUnitOfWork], statements: Statements, jobs: Iterable[Job]
    ) -> None:
        self._begin = begin
        self._statements = statements
        self._jobs = {job.kind: job for job in jobs}
        self._held: set[UUID] = set()
        self.worker = uuid4()
        self.tally = Tally()

    async def run(self, _: dict[str, Any], *, entry_id: str) -> None:
        """Do one entry, unless somebody else is at it.

        A failure is recorded with the time of the next attempt, not raised. When this is cancelled
        the entry is handed back.
        """
        entry = await self._take(UUID(entry_id))
        if entry is None:
            return
        self._held.add(entry.id)
        job = self._jobs[entry.kind]
        try:
            async with asyncio.timeout(job.seconds):
                await job(entry)
        except asyncio.CancelledError:
            await self._hand_back(entry)
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the outbox has to know
            _log.warning("job failed", kind=entry.kind, entry=str(entry.id), exc_info=error)
            await self._record(job, entry, error)
        else:
            self.tally.count(job.queue, Outcome.DONE)
        finally:
            self._held.discard(entry.id)

    async def renew(self) -> None:
        """Say that all that is under way here still is; more often than `LEASE`."""
        if self._held:
            async with self._begin() as transaction:
                await Attempts(transaction.session, self.worker).renew(self._held)
                await transaction.commit()

    async def _take(self, entry_id: UUID) -> OutboxEntry | None:
        """Take an entry. While the database is away, wait: nothing is to leave the queue in vain."""
        while True:
            try:
                return await take(self._statements, self.worker, entry_id, self._jobs.keys())
            except DatabaseUnavailable:
                await asyncio.sleep(_DATABASE_SECONDS)

    async def _hand_back(self, entry: OutboxEntry) -> None:
        try:
            async with self._begin() as transaction:
                await Attempts(transaction.session, self.worker).hand_back(entry.id)
                await transaction.commit()
        except ChitramError as error:
            # The lease runs out by itself.
            _log.warning("job not handed back", entry=str(entry.id), cause=error.code)

    async def _record(self, job: Job, entry: OutboxEntry, error: Exception) -> None:
        is_outage = isinstance(error, ChitramError) and error.category is Category.UNAVAILABLE
        is_last = not is_outage and entry.failures + 1 >= job.attempts and await self._give_up(job, entry)
        try:
            async with self._begin() as transaction:
                attempts = Attempts(transaction.session, self.worker)
                await attempts.failed(entry.id, _describe(error), counts=not is_outage, is_last=is_last)
                await transaction.commit()
        except ChitramError as unrecorded:
            _log.warning("failure not recorded", entry=str(entry.id), cause=unrecorded.code)
            return
        self.tally.count(job.queue, Outcome.FAILED)
        if is_last:
            _log.error("job given up", kind=entry.kind, entry=str(entry.id))

    async def _give_up(self, job: Job, entry: OutboxEntry) -> bool:
        """Say that nobody will try again; while that cannot be said, there is another attempt."""
        try:
            await job.given_up(entry)
        except Exception as error:  # noqa: BLE001 - as above
            _log.warning("job cannot be given up yet", kind=entry.kind, entry=str(entry.id), exc_info=error)
            return False
        return True


def _describe(error: Exception) -> str:
    if isinstance(error, ChitramError):
        return error.code
    if isinstance(error, TimeoutError):
        return "TimeoutError: took too long"
    return f"{type(error).__name__}: {error}"

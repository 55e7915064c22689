"""Unit of work and outbox: one database transaction and the work that it still owes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from types import TracebackType
from typing import Protocol, Self
from uuid import UUID


class Outbox(Protocol):
    """Durable ledger of work that a committed change still owes.

    A row is written in the transaction of the change and removed in the final transaction of its
    job, so the queue in between may lose everything.
    """

    async def add(self, kind: str, payload: Mapping[str, str], *, delay: timedelta | None = None) -> UUID:
        """Record that `kind` has to be done once this transaction is committed, or `delay` later."""
        ...

    async def owes(self, payload: Mapping[str, str], *kinds: str) -> bool:
        """Whether a row of one of `kinds` whose payload holds all of `payload` is undone, given up or not."""
        ...

    async def done(self, entry_id: UUID) -> None:
        """Strike a row off; part of the transaction that makes its work final."""
        ...

    async def discard(self, payload: Mapping[str, str], *kinds: str) -> None:
        """Drop undone rows of `kinds` whose payload holds all of `payload`: their subject is gone."""
        ...


class UnitOfWork(Protocol):
    """One transaction. Leaving the block without `commit` rolls back.

    Raises `DatabaseUnavailable` when the database cannot be reached, and `CommitUncertain` from
    `commit` when the connection was lost after COMMIT was sent.
    """

    @property
    def outbox(self) -> Outbox: ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    async def commit(self) -> None: ...

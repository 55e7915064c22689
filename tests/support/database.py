"""A migrated database of a test's own, and the adapters over it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Self
from uuid import UUID

import asyncpg
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from chitram.images.adapters.postgres.catalogue import PostgresBlobCatalogue
from chitram.images.adapters.postgres.queries import PostgresImageQueries
from chitram.images.adapters.postgres.statements import STATEMENTS
from chitram.images.adapters.postgres.unit_of_work import PostgresTransactions
from chitram.images.ports import Transactions
from chitram.platform.attempts import TAKE
from chitram.platform.database import Reader, make_engine, make_reader
from chitram.platform.outbox import OutboxEntry, OutboxRow
from chitram.platform.settings import Settings
from chitram.platform.shared_cache.epoch import EPOCH_STATEMENTS
from chitram.platform.statements import Statements

# Makes a migrated, empty database and returns its URL.
NewUrl = Callable[[], Awaitable[str]]


class RecordingRelay:
    """Remembers what a commit told the queue."""

    def __init__(self) -> None:
        self.entries: list[OutboxEntry] = []

    def notify(self, entries: Sequence[OutboxEntry]) -> None:
        self.entries += entries


@dataclass
class Database:
    """Adapters over one database. Close it before its event loop ends."""

    url: str
    engine: AsyncEngine
    pool: asyncpg.Pool
    sessions: async_sessionmaker[AsyncSession]
    statements: Statements
    relay: RecordingRelay

    @classmethod
    async def open(cls, url: str) -> Self:
        settings = Settings(database_url=url)
        engine = make_engine(settings)
        return cls(
            url,
            engine,
            await make_reader(settings),
            async_sessionmaker(engine, expire_on_commit=False, autoflush=False),
            Statements(settings, [*STATEMENTS, TAKE, *EPOCH_STATEMENTS], size=4),
            RecordingRelay(),
        )

    @property
    def reader(self) -> Reader:
        return Reader(self.pool)

    @property
    def transactions(self) -> PostgresTransactions:
        return PostgresTransactions(self.sessions, self.relay, self.statements)

    @property
    def catalogue(self) -> PostgresBlobCatalogue:
        return PostgresBlobCatalogue(self.reader)

    @property
    def queries(self) -> PostgresImageQueries:
        return PostgresImageQueries(self.reader)

    async def aclose(self) -> None:
        await self.statements.aclose()
        await self.engine.dispose()
        await self.pool.close()


async def outbox_ids(transactions: Transactions) -> set[UUID]:
    """Ids of all outbox rows."""
    assert isinstance(transactions, PostgresTransactions)
    async with transactions.begin() as transaction:
        return set(await transaction.session.scalars(select(OutboxRow.id)))

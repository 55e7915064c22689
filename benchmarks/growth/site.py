"""An API on servers of its own, whose database is filled with rows in bulk."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable

import asyncpg
from valkey.asyncio import Valkey

from benchmarks.growth.curves import Filling, Point
from benchmarks.model import Sample
from benchmarks.stack import Stack, running_stack
from tests.support.accounts import Account, Accounts, Headers, bearer
from tests.support.bulk import add_images, indexed_afterwards

# Of so many images one is the collector's: with 5 million, a million.
OWNED_EVERY = 5
# From here on it is faster to make the indexes again than to keep them.
_MANY = 500_000
_MOST_IDS = 200_000
# Rows, indexes and log of what one image takes in PostgreSQL, while indexes are made.
_BYTES_OF_IMAGE = 3000


class NoRoom(Exception):
    """The disk is too small for so many rows."""


class Site:
    """An API, the database under it, and somebody who collects images. No worker runs."""

    def __init__(self, stack: Stack, connection: asyncpg.Connection, collector: Account) -> None:
        self.stack = stack
        self.connection = connection
        self.collector = collector
        self._images = 0

    @classmethod
    @contextlib.asynccontextmanager
    async def with_room_for(cls, images: int) -> AsyncIterator[Site]:
        """Run one. Raises `NoRoom`."""
        if shutil.disk_usage(tempfile.gettempdir()).free < images * _BYTES_OF_IMAGE:
            raise NoRoom(f"{tempfile.gettempdir()} has no room for {images:,} images: fewer with --rows.")
        async with running_stack() as stack, Accounts.of(stack.servers.database_url) as accounts:
            yield cls(stack, accounts.connection, await accounts.somebody())

    async def fill(self, images: int) -> Filling:
        """Add rows until there are so many images."""
        began, more = time.monotonic(), images - self._images
        async with contextlib.AsyncExitStack() as exits:
            if more >= _MANY:
                await exits.enter_async_context(indexed_afterwards(self.connection))
            await add_images(self.connection, more, owner_id=self.collector.id, owned_every=OWNED_EVERY)
        self._images = images
        seconds = time.monotonic() - began
        await self.connection.execute("VACUUM (ANALYZE)")
        size = await self.connection.fetchval("SELECT pg_database_size(current_database())")
        return Filling(images=images, seconds=round(seconds, 1), database_mib=round(size / 2**20))

    def headers(self) -> Headers:
        """What the collector signs in with, for the next minutes."""
        return bearer(self.collector.id, self.collector.session_id)

    async def ids(self, condition: str = "true", most: int = _MOST_IDS) -> list[str]:
        """Ids of images, taken at random from all of them."""
        share = min(100.0, 300.0 * most / self._images)
        rows = await self.connection.fetch(
            f"SELECT id::text FROM images TABLESAMPLE BERNOULLI ({share}) WHERE {condition}"  # noqa: S608 - ours
            " ORDER BY random() LIMIT $1",
            most,
        )
        return [row["id"] for row in rows]

    async def empty_caches(self) -> None:
        """Have Valkey forget everything."""
        async with Valkey.from_url(self.stack.servers.valkey_url) as client:
            await client.flushall()

    async def measured(self, at: int, load: Awaitable[Sample]) -> Point:
        """Wait for a load; what it saw, and what the servers counted for each request meanwhile."""
        before, began = await self._counters(), time.monotonic()
        sample = await load
        requests = max(1.0, sample.rate * (time.monotonic() - began))
        after = await self._counters()
        return Point(
            at=at,
            sample=sample,
            others={name: round((after[name] - before[name]) / requests, 3) for name in after},
        )

    async def _counters(self) -> dict[str, float]:
        async with Valkey.from_url(self.stack.servers.valkey_url) as client:
            stats = await client.info("stats")
        # What a connection has counted it tells when it is idle.
        row = await self.connection.fetchrow(
            "SELECT blks_hit, blks_read FROM pg_stat_database WHERE datname = current_database()"
        )
        return {
            "values found in Valkey": stats["keyspace_hits"],
            "values evicted from Valkey": stats["evicted_keys"],
            "pages found by PostgreSQL in its own memory": row["blks_hit"],
            "pages fetched by it from elsewhere": row["blks_read"],
        }

"""How Alembic runs a migration here: one transaction each, never waiting long for a lock."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, cast

from advanced_alchemy.base import orm_registry
from alembic import context
from sqlalchemy import Connection, text

import chitram.accounts.adapters.postgres.rows
import chitram.images.adapters.postgres.rows
import chitram.platform.outbox
import chitram.platform.schedule
import chitram.platform.shared_cache.epoch_row  # noqa: F401 - importing registers its row

if TYPE_CHECKING:
    from advanced_alchemy.alembic.commands import AlembicCommandConfig
    from sqlalchemy.ext.asyncio import AsyncEngine

# Any number: two processes that migrate at once take turns on it.
_ADVISORY_LOCK = 7_246_019_385
_TURN_SECONDS = 0.1


def run(connection: Connection) -> None:
    """Run the migrations on one connection."""
    config = cast("AlembicCommandConfig", context.config)
    _take_turn(connection)
    # A migration that cannot have its lock gives up rather than queueing every request behind it.
    connection.execute(text("SET lock_timeout = '5s'"))
    connection.commit()
    context.configure(
        connection=connection,
        target_metadata=orm_registry.metadata,
        version_table=config.version_table_name,
        compare_type=config.compare_type,
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()


def _take_turn(connection: Connection) -> None:
    # The server is not asked to wait: an index that is made concurrently waits for every statement
    # that was begun before, and so would wait for the one that waits for it.
    while not connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": _ADVISORY_LOCK}):
        connection.rollback()
        time.sleep(_TURN_SECONDS)


async def main() -> None:
    """Connect, migrate, let go."""
    engine = cast("AsyncEngine", cast("AlembicCommandConfig", context.config).engine)
    async with engine.connect() as connection:
        await connection.run_sync(run)
    await engine.dispose()


asyncio.run(main())

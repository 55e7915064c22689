"""Whether the stores that rows name are all configured."""

from __future__ import annotations

import asyncpg
import structlog
from dishka import AsyncContainer
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from chitram.images.domain.work import CLEAR_RENDITIONS, DROP_COPY, SHARD
from chitram.images.ports import BlobCatalogue
from chitram.kernel.errors import DatabaseUnavailable
from chitram.main.container import make_container
from chitram.platform.database import SqlUnitOfWork
from chitram.platform.objects.registry import stores_from_settings
from chitram.platform.outbox import Relay
from chitram.platform.settings import Settings, SettingsError

_COUNTED = 1000

_log = structlog.get_logger("chitram")


async def require_stores(settings: Settings) -> None:
    """Refuse settings without a store that rows still name. Raises `SettingsError`.

    A database that cannot be asked now is no reason not to start.
    """
    configured = {store.name for store in stores_from_settings(settings)}
    container = make_container(settings)
    try:
        held = await _held(container)
    except (DatabaseUnavailable, asyncpg.UndefinedTableError) as error:
        _log.warning("stores not compared with the database", cause=type(error).__name__)
        return
    finally:
        await container.close()
    if missing := sorted(held.keys() - configured):
        raise SettingsError(_refusal(missing, held))


async def _held(container: AsyncContainer) -> dict[str, int]:
    """What each store holds that the database knows of: blobs, open uploads, copies yet to go."""
    catalogue = await container.get(BlobCatalogue)
    held = dict(await catalogue.shards())
    sessions = await container.get(async_sessionmaker[AsyncSession])
    async with SqlUnitOfWork(sessions, await container.get(Relay)) as transaction:
        owed = [await transaction.outbox.count_by(kind, SHARD) for kind in (DROP_COPY, CLEAR_RENDITIONS)]
    for shard, count in (each for copies in owed for each in copies.items()):
        held[shard] = held.get(shard, 0) + count
    return held


def _refusal(missing: list[str], held: dict[str, int]) -> str:
    listed = ", ".join(f"{name!r} ({_counted(held[name])})" for name in missing)
    return (
        f"CHITRAM_STORAGE_URLS: stores are missing that still hold files: {listed}. Put their entries "
        "back. To do without one, empty it first: `just admin move-storage --from NAME --to NAME`; its "
        "entry may go once the worker has removed the last old copies, and uploads begun there are over."
    )


def _counted(count: int) -> str:
    return f"{_COUNTED} or more" if count >= _COUNTED else str(count)

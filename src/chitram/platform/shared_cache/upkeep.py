"""What goes on beside the requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import structlog

from chitram.kernel.errors import DatabaseUnavailable
from chitram.platform.valkey import ValkeyUnavailable

_log = structlog.get_logger("chitram.cache")


async def repeat(seconds: float, name: str, work: Callable[[], Awaitable[object]]) -> None:
    """Do `work` for ever, `seconds` apart; an outage is told of once, and only skips turns."""
    away = False
    while True:
        try:
            await work()
        except (DatabaseUnavailable, ValkeyUnavailable) as error:
            if not away:
                _log.warning("skipped", work=name, cause=type(error).__name__)
            away = True
        except Exception:  # noqa: BLE001 - a loop that ends would never be missed
            _log.exception("unexpected error", work=name)
        else:
            away = False
        await asyncio.sleep(seconds)


@asynccontextmanager
async def beside(*works: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Do endless works for the length of a block."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

"""What goes on beside the requests and the jobs, again and again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import structlog
from valkey.exceptions import ValkeyError

from chitram.kernel.errors import ChitramError
from chitram.platform.valkey import ValkeyUnavailable

_log = structlog.get_logger("chitram.loops")


async def repeat(
    seconds: float, name: str, work: Callable[[], Awaitable[object]], stop: asyncio.Event | None = None
) -> None:
    """Do `work` now, and again `seconds` after its end, until `stop`.

    An outage is told of once, and only skips turns.
    """
    stop = stop or asyncio.Event()
    away = False
    while not stop.is_set():
        try:
            await work()
        except (ChitramError, ValkeyUnavailable, ValkeyError, OSError) as error:
            if not away:
                _log.warning("skipped", work=name, cause=type(error).__name__)
            away = True
        except Exception:  # noqa: BLE001 - a loop that ends would never be missed
            _log.exception("unexpected error", work=name)
        else:
            away = False
        try:
            async with asyncio.timeout(seconds):
                await stop.wait()
        except TimeoutError:
            continue


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

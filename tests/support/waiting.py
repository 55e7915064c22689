"""Waiting for what happens elsewhere, which has no event of ours."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

# Far more than anything takes here, also on a machine that is busy with other things.
WAIT_SECONDS = 30
_LOOK_SECONDS = 0.02


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Ask again and again until the answer is yes.

    Raises:
        TimeoutError: it was not in `WAIT_SECONDS`.
    """
    async with asyncio.timeout(WAIT_SECONDS):
        while not await condition():
            await asyncio.sleep(_LOOK_SECONDS)

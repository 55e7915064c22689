"""Ending what proves to be an account: what of it is remembered has to go with it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from chitram.kernel.errors import CommitUncertain


@asynccontextmanager
async def then_forgotten(forget: Callable[[], Awaitable[bool]]) -> AsyncIterator[None]:
    """Forget after a block that holds a whole transaction.

    Also when it is not known whether that was committed, for what is read next is the truth. A
    server that was waited for in vain is not asked again: the outbox row of the same transaction
    does it, if there is one, and whoever asked is told that nothing is certain.
    """
    try:
        yield
    except CommitUncertain as error:
        if not error.timed_out:
            await forget()
        raise
    await forget()

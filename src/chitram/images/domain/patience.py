"""How long one request may wait for its turn, in all the places where it has to."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from contextvars import ContextVar
from dataclasses import dataclass

from chitram.images.domain.errors import UploadCapacityExceeded


@dataclass(slots=True)
class _Patience:
    seconds: float


_of_request: ContextVar[_Patience | None] = ContextVar("patience", default=None)


@contextlib.contextmanager
def patience(seconds: float) -> Iterator[None]:
    """Let everything that is awaited inside the block wait `seconds` for its turns together."""
    token = _of_request.set(_Patience(seconds))
    try:
        yield
    finally:
        _of_request.reset(token)


@contextlib.asynccontextmanager
async def waiting(seconds: float) -> AsyncIterator[None]:
    """Wait for a turn inside the block; raises `UploadCapacityExceeded` when it does not come in time.

    That is what is left of the patience in force, or `seconds` where there is none.
    """
    left = _of_request.get() or _Patience(seconds)
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        async with asyncio.timeout(left.seconds):
            yield
    except TimeoutError:
        raise UploadCapacityExceeded from None
    finally:
        left.seconds = max(0.0, left.seconds - (loop.time() - began))

"""Blocking calls of the object stores: bounded threads, deadlines, the pass over what is put."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from chitram.kernel.errors import StorageUnavailable

T = TypeVar("T")


class Threads:
    """A bounded pool of threads whose calls are awaited for so long and no longer.

    A call that is given up keeps its thread until it returns by itself, so a disk or server that
    hangs takes at most these threads and never the event loop's own.
    """

    def __init__(self, name: str, count: int) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix=name)

    async def run(self, call: Callable[[], T], seconds: float) -> T:
        """Return what `call` returns; raises `StorageUnavailable` after `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.wrap_future(self._pool.submit(call))
        except TimeoutError as error:
            raise StorageUnavailable("The image store did not answer in time.") from error

    def close(self) -> None:
        """Take no more calls; those under way end by themselves."""
        self._pool.shutdown(wait=False)


class Abandoned(Exception):
    """Nobody waits for this write any more."""


def counted(chunks: Iterable[bytes], size: int, abandoned: threading.Event) -> Iterator[bytes]:
    """Yield `chunks` as long as somebody waits for them; a generator is closed in the end.

    Raises `ValueError` when they are not `size` bytes in all, `Abandoned` once `abandoned` is set.
    """
    left = size
    try:
        for chunk in chunks:
            left -= len(chunk)
            if left < 0 or abandoned.is_set():
                break
            yield chunk
    finally:
        if isinstance(chunks, Generator):
            chunks.close()
    if abandoned.is_set():
        raise Abandoned
    if left:
        raise ValueError("the chunks are not as many bytes as announced")

"""The pools of rendering children: the adapter behind the port `Renderer`."""

from __future__ import annotations

import asyncio
import mmap
import os
from collections.abc import Coroutine, Sequence
from typing import Any

import structlog

from chitram.images.adapters.children.frames import Limits, ProtocolError
from chitram.images.adapters.children.pool import ChildPool
from chitram.images.adapters.children.process import (
    Child,
    ChildGone,
    ChildNotStarted,
    Program,
    starved_seconds,
)
from chitram.images.adapters.children.spool import ReadOnlySpool
from chitram.images.adapters.decoder import jpeg, png
from chitram.images.adapters.decoder.source import Shape
from chitram.images.adapters.renderer.checks import check, most_bytes
from chitram.images.adapters.renderer.protocol import Encoded, Job, Refused, Work, read_answer
from chitram.images.domain.content import Received
from chitram.images.domain.errors import CorruptImage, RendererUnavailable
from chitram.images.domain.rendition import OPTIMISED_MAX_PIXELS
from chitram.images.ports import Rendered, RenderingFailed

_log = structlog.get_logger("chitram.renderer")

# Against slow leaks in native libraries; a new child costs 0.3 s of a processor.
IMAGES_PER_CHILD = 500
# Who answers requests goes first, then the worker, then who waits for thumbnails: measured in
# docs/benchmarks/tried/mixed.md. These go on top of the worker's.
_NICENESS = {Work.THUMBNAILS: 4, Work.OPTIMISED: 9}
# Walking through so much takes the event loop less time than waking a thread.
_CHECKED_AT_ONCE_BYTES = 256 * 1024
# A child that waits for a processor does not hang. So many times as long as is given may it take in all.
PATIENCE = 4


class ChildRenderer:
    """Renders in confined child processes, at most `size` of them for each kind of work.

    Args:
        size: how many originals are worked on at once, for thumbnails and for optimising each.
        seconds: time for one original, of a processor, and of the clock without waiting for one.
        memory_bytes: address space of a child.
    """

    def __init__(self, *, size: int, seconds: float, memory_bytes: int) -> None:
        self._seconds = seconds
        self._pools = {
            work: ChildPool(
                Program(
                    f"{work.value}_renderer",
                    "chitram.images.adapters.renderer.child",
                    Limits(memory_bytes=memory_bytes, cpu_seconds=seconds, niceness=niceness),
                ),
                size=size,
                jobs_per_child=IMAGES_PER_CHILD,
            )
            for work, niceness in _NICENESS.items()
        }

    async def aclose(self) -> None:
        """End every child; what is being rendered fails."""
        await asyncio.gather(*(pool.aclose() for pool in self._pools.values()))

    async def thumbnails(self, original: Received) -> Sequence[Rendered]:
        with ReadOnlySpool.of(original) as spool:
            return await self._render(Work.THUMBNAILS, spool, await _shape(spool))

    async def optimised(self, original: Received) -> Sequence[Rendered]:
        with ReadOnlySpool.of(original) as spool:
            shape = await _shape(spool)
            if shape.width * shape.height > OPTIMISED_MAX_PIXELS:
                return ()
            return await self._render(Work.OPTIMISED, spool, shape)

    async def _render(self, work: Work, spool: ReadOnlySpool, shape: Shape) -> Sequence[Rendered]:
        pool = self._pools[work]
        async with pool.slots:
            if pool.closed:
                raise RendererUnavailable("The renderer is being stopped.")
            task = pool.in_background(self._made(pool, work, spool, shape))
            try:
                made = await asyncio.shield(task)
            except asyncio.CancelledError:
                # Awaited by nobody else, it ends its child.
                if task.cancelled():
                    raise RendererUnavailable("The renderer is being stopped.") from None
                task.cancel()
                raise
        return [
            Rendered(
                kind=each.kind, format=each.format, width=each.width, height=each.height, content=each.content
            )
            for each in made
        ]

    async def _made(self, pool: ChildPool, work: Work, spool: ReadOnlySpool, shape: Shape) -> list[Encoded]:
        """Return a child's answer, held against what can be true."""
        job = Job(
            work=work,
            format=shape.format,
            size=spool.size,
            width=shape.width,
            height=shape.height,
            orientation=shape.orientation,
        )
        try:
            async with pool.lent() as child:
                asking = child.ask(job, spool.fileno(), most_bytes(work, spool.size))
                answer = read_answer(await self._in_time(child, asking))
                if not isinstance(answer, Refused):
                    await _checked(work, answer.renditions, shape, spool.size)
        except ChildNotStarted as error:
            # No fault of the picture: it is tried again for ever.
            raise RendererUnavailable from error
        except ChildGone as error:
            _log.warning("renderer_gone", work=work, exit_status=error.exit_status, bytes=spool.size)
            if error.used_up:
                raise RenderingFailed("it takes too long") from error
            raise RenderingFailed("the renderer does not survive it") from error
        except TimeoutError as error:
            _log.warning("renderer_timed_out", work=work, seconds=self._seconds, bytes=spool.size)
            raise RenderingFailed("it takes too long") from error
        except ProtocolError as error:
            _log.error("renderer_answer_refused", work=work, error=str(error), bytes=spool.size)
            raise RenderingFailed("the renderer's answer cannot be true") from error
        if isinstance(answer, Refused):
            _log.warning("renderer_refused", work=work, reason=answer.reason, error=answer.cause)
            raise RenderingFailed(_REASONS[answer.reason])
        return answer.renditions

    async def _in_time(self, child: Child, asking: Coroutine[Any, Any, bytes]) -> bytes:
        """What a child answers; raises `TimeoutError` when it hangs.

        A child that got too little of a processor in all that time raises `RendererUnavailable`.
        """
        loop = asyncio.get_running_loop()
        task = loop.create_task(asking)
        began, before = loop.time(), starved_seconds(child.pid)
        starved, left = 0.0, self._seconds
        try:
            while left > 0:
                await asyncio.wait((task,), timeout=left)
                if task.done():
                    return task.result()
                starved = starved_seconds(child.pid) - before
                left = began + min(self._seconds + starved, PATIENCE * self._seconds) - loop.time()
            if starved > (PATIENCE - 1) * self._seconds:
                raise RendererUnavailable("The renderer gets no processor.")
            raise TimeoutError
        finally:
            # It reads from a socket that is about to be closed.
            task.cancel()
            await asyncio.wait((task,))


_REASONS = {"corrupt": "the picture cannot be decoded", "memory": "it takes too much memory"}


async def _checked(work: Work, made: Sequence[Encoded], shape: Shape, original_bytes: int) -> None:
    """As `check`, in a thread unless that takes longer to wake."""
    if sum(len(each.content) for each in made) <= _CHECKED_AT_ONCE_BYTES:
        check(work, made, shape, original_bytes)
    else:
        await asyncio.to_thread(check, work, made, shape, original_bytes)


async def _shape(spool: ReadOnlySpool) -> Shape:
    """Read the header of an original as it was read on upload; raises `RenderingFailed`."""
    try:
        if os.pread(spool.fileno(), 1, 0) == b"\x89":
            # Chunks may stand up to its end.
            return await asyncio.to_thread(lambda: png.shape(_mapped(spool)))
        return jpeg.shape(_mapped(spool))
    except (CorruptImage, ValueError) as error:
        raise RenderingFailed("the file is not the picture that was stored") from error


def _mapped(spool: ReadOnlySpool) -> mmap.mmap:
    """The file, until nobody looks at it any more: a thread may, and so may the traceback of an error."""
    return mmap.mmap(spool.fileno(), spool.size, access=mmap.ACCESS_READ)

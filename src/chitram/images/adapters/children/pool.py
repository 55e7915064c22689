"""A pool of children: who may have one, and what becomes of those that fail or have served."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeVar

import structlog

from chitram.images.adapters.children.process import Child, ChildNotStarted, Program

T = TypeVar("T")

_log = structlog.get_logger("chitram.children")


class ChildPool:
    """Lends children of one program, at most `size` of them, one job in each.

    Args:
        jobs_per_child: after how many a child is replaced.
    """

    def __init__(self, program: Program, *, size: int, jobs_per_child: int) -> None:
        self._program = program
        self._size = size
        self._jobs_per_child = jobs_per_child
        # Whoever holds a slot may have a child; idle children and held slots are `size` at most.
        self.slots = asyncio.Semaphore(size)
        self.idle: list[Child] = []
        self.tasks: set[asyncio.Task[Any]] = set()
        self._leaving: set[asyncio.Task[None]] = set()
        self._lent: set[Child] = set()
        self._all_back = asyncio.Event()
        self.closed = False

    async def start(self) -> None:
        """Have one child ready and the others soon, so that no burst of jobs waits until they have started.

        Raises `ChildNotStarted` with the reason for the operator.
        """
        self.idle.append(await Child.start(self._program))
        for _ in range(self._size - 1):
            await self.slots.acquire()
            self._renew_soon()

    async def aclose(self) -> None:
        """Cancel what is under way and end every child."""
        self.closed = True
        tasks = list(self.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for child in self._lent:
            child.interrupt()
        while self._lent:
            self._all_back.clear()
            await self._all_back.wait()
        for child in self.idle:
            self._dismiss(child)
        self.idle.clear()
        await asyncio.gather(*self._leaving)

    @contextlib.asynccontextmanager
    async def lent(self) -> AsyncIterator[Child]:
        """Lend a child to the holder of a slot. After an error nobody gets it again.

        Raises `ChildNotStarted`.
        """
        child = await self.take()
        try:
            yield child
        except BaseException:
            await self.end(child)
            raise
        self.give_back(child)

    async def take(self) -> Child:
        """Lend a child to the holder of a slot, until `give_back` or `end`; raises `ChildNotStarted`."""
        child = await self._idle_or_new()
        self._lent.add(child)
        return child

    def give_back(self, child: Child) -> None:
        """Take back a child that has done what it was told to."""
        self._returned(child)
        if child.served < self._jobs_per_child and not self.closed:
            self.idle.append(child)
        else:
            self._dismiss(child)

    async def end(self, child: Child) -> None:
        """Take back a child that nobody may get again."""
        try:
            await child.kill()
        finally:
            self._returned(child)

    def _returned(self, child: Child) -> None:
        self._lent.discard(child)
        if not self._lent:
            self._all_back.set()

    def give_slot_back(self) -> None:
        """Free a slot, once a child is ready again if the last one went."""
        if self.idle or self.closed:
            self.slots.release()
        else:
            self._renew_soon()

    def in_background(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run `work` in a task that `aclose` cancels and waits for."""
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    def to_the_end(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work`, which ends when its child does, in a task that `aclose` waits for.

        It is not cancelled: before its first step it could not take the child back.
        """
        task = asyncio.create_task(work)
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def _idle_or_new(self) -> Child:
        while self.idle:
            child = self.idle.pop()
            if child.is_usable():
                return child
            _log.warning(f"{self._program.name}_lost", pid=child.pid)
            self._lent.add(child)
            await self.end(child)
        if self.closed:
            raise ChildNotStarted("no more are started")
        starting = self.in_background(Child.start(self._program))
        try:
            return await starting
        except ChildNotStarted as error:
            self._tell(error)
            raise
        except asyncio.CancelledError:
            if starting.done() and not starting.cancelled() and not starting.exception():
                # Nobody else knows of it.
                self._dismiss(starting.result())
            if self.closed:
                raise ChildNotStarted("no more are started") from None
            raise

    def _renew_soon(self) -> None:
        """Give a slot back once a child is ready; also when `aclose` cancels that before its first step."""
        renewing = self.in_background(self._renew())
        renewing.add_done_callback(lambda _: self.slots.release())

    async def _renew(self) -> None:
        try:
            self.idle.append(await Child.start(self._program))
        except ChildNotStarted as error:
            self._tell(error)

    def _tell(self, error: ChildNotStarted) -> None:
        _log.error(f"{self._program.name}_not_started", error=str(error))

    def _dismiss(self, child: Child) -> None:
        """Let a child end by itself, which nobody waits for before `aclose`."""
        self.to_the_end(child.stop())

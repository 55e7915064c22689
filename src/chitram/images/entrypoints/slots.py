"""Admission: how many uploads are read and checked at once, and who waits for that."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass

from chitram.images.domain.errors import UploadCapacityExceeded
from chitram.images.domain.patience import patience, waiting
from chitram.platform.http.body import ClientDisconnected
from chitram.platform.http.departure import departure_watched
from chitram.platform.slot_locks import SlotLocks, now

# How soon a slot that another process frees is noticed; asked for only while somebody waits.
_POLL_SECONDS = 0.005
# Whoever is next in a process that stands still may be overtaken, at every so many polls.
_OVERTAKING_POLLS = 20


@dataclass(slots=True, eq=False)
class _Waiter:
    arrival: int
    slot: asyncio.Future[int]

    def depart(self) -> None:
        if not self.slot.done():
            self.slot.set_exception(ClientDisconnected())

    @property
    def has_slot(self) -> bool:
        return self.slot.done() and not self.slot.cancelled() and self.slot.exception() is None


class UploadSlots:
    """Slots of all processes of an instance, and this process's queue for them.

    Use it around everything that reads, checks and stores an upload, before a byte of the body is
    read: slow senders can then use up slots, but nothing else.

    Args:
        locks: the slots that all processes share.
        queue: how many requests of this process may wait.
        wait_seconds: how long each may wait, for its slot and its decoders together.
    """

    def __init__(self, locks: SlotLocks, *, queue: int, wait_seconds: float) -> None:
        self._locks = locks
        self._queue = queue
        self._wait_seconds = wait_seconds
        self._waiters: deque[_Waiter] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._polls = 0

    @contextlib.asynccontextmanager
    async def taken(self, client: tuple[str, int] | None = None) -> AsyncIterator[None]:
        """Hold a slot; a `client` that leaves while it waits for one leaves the queue.

        Raises `UploadCapacityExceeded` at once when the queue is full, or after waiting in vain, and
        `ClientDisconnected`.
        """
        with patience(self._wait_seconds):
            slot = await self._take(client)
            try:
                yield
            finally:
                self._locks.give_back(slot)
                self._serve()

    @property
    def waiting(self) -> int:
        """How many requests of this process wait."""
        return len(self._waiters)

    async def _take(self, client: tuple[str, int] | None) -> int:
        arrival = now()
        if not self._waiters and self._locks.is_next(arrival) and (slot := self._locks.take()) is not None:
            return slot
        if len(self._waiters) >= self._queue:
            raise UploadCapacityExceeded
        waiter = _Waiter(arrival, asyncio.get_running_loop().create_future())
        self._waiters.append(waiter)
        self._serve()
        try:
            with departure_watched(client, waiter.depart):
                async with waiting(self._wait_seconds):
                    return await waiter.slot
        except BaseException:
            self._leave(waiter)
            raise

    def _leave(self, waiter: _Waiter) -> None:
        """Take a waiter out of the queue; it may have got its slot in the same moment."""
        waiter.slot.cancel()
        if waiter.has_slot:
            self._locks.give_back(waiter.slot.result())
        with contextlib.suppress(ValueError):
            self._waiters.remove(waiter)
        self._serve()

    def _serve(self) -> None:
        """Give slots to those whose turn it is, and keep the place of who is next here."""
        while self._waiters:
            if self._waiters[0].slot.done():
                self._waiters.popleft()
                continue
            if not self._may_take(self._waiters[0]) or (slot := self._locks.take()) is None:
                break
            self._waiters.popleft().slot.set_result(slot)
        self._locks.queue_since(self._waiters[0].arrival if self._waiters else None)
        self._watch()

    def _may_take(self, waiter: _Waiter) -> bool:
        if self._locks.is_next(waiter.arrival):
            self._polls = 0
            return True
        overtakes = self._polls >= _OVERTAKING_POLLS
        if overtakes:
            self._polls = 0
        return overtakes

    def _watch(self) -> None:
        if self._waiters and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_POLL_SECONDS, self._poll)
        elif not self._waiters and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _poll(self) -> None:
        self._timer = None
        self._polls += 1
        self._serve()

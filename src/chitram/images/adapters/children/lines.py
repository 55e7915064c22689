"""Children that are told of several jobs at once, and do one after the other.

Between an answer and the next job a child would be idle for a turn of the event loop, which under
load takes longer than most jobs. For the same reason answers that come together are taken together.
"""

from __future__ import annotations

import asyncio
from collections import deque
from enum import Enum, auto

import msgspec

from chitram.images.adapters.children.frames import ProtocolError
from chitram.images.adapters.children.pool import ChildPool
from chitram.images.adapters.children.process import Child, ChildGone


class NotBegun(Exception):
    """A child ended before it came to a job that it was told of."""


class Turn(Enum):
    """What has become of a job when those before it are done, if it was not answered with them."""

    COME = auto()  # the next answer is to this job
    LOST = auto()  # the child has ended


Answered = asyncio.Future[bytes | Turn]


class Line:
    """A child and the jobs that it has not answered, of which it is at the first.

    Args:
        most: length of the longest answer.
    """

    def __init__(self, child: Child, most: int) -> None:
        self.child = child
        self._most = most
        self._turns: deque[Answered] = deque()

    def __len__(self) -> int:
        return len(self._turns)

    def tell(self, job: msgspec.Struct, descriptor: int) -> Answered:
        """Tell the child of a job on an open file; raises `ChildGone`.

        What is returned is done when those before are, with the answer if that has come along.
        """
        self.child.tell(job, descriptor)
        turn: Answered = asyncio.get_running_loop().create_future()
        self._turns.append(turn)
        if len(self._turns) == 1:
            turn.set_result(Turn.COME)
        return turn

    def next(self) -> None:
        """The first job is answered."""
        self._turns.popleft()
        while self._turns and (said := self._heard()) is not None:
            self._turns.popleft().set_result(said)
        if self._turns:
            self._turns[0].set_result(Turn.COME)

    def _heard(self) -> bytes | None:
        try:
            return self.child.heard(self._most)
        except ProtocolError:
            # Whoever is next will hear of it too.
            return None

    def dissolve(self) -> None:
        """The child ends, and has answered nothing of the first job."""
        self._turns.popleft()
        while self._turns:
            self._turns.popleft().set_result(Turn.LOST)


class Lines:
    """The lines of a pool of children. How long they get is for whoever joins them to bound.

    Args:
        jobs_per_child: after how many nobody joins the line of a child any more.
        most: length in bytes of the longest answer.
    """

    def __init__(self, children: ChildPool, *, jobs_per_child: int, most: int) -> None:
        self._children = children
        self._most = most
        self._jobs_per_child = jobs_per_child
        self._open: list[Line] = []
        self._opening = asyncio.Lock()

    async def join(self, job: msgspec.Struct, descriptor: int) -> tuple[Line, Answered]:
        """Give a job to an idle child or a new one, where there may be more, or else to the shortest line.

        See `Line.tell` for what is returned. Raises `ChildNotStarted`, and `ChildGone` and `NotBegun`
        for a child that has ended; of the line nothing is left then.
        """
        line = self._shortest()
        if line is None:
            async with self._opening:
                line = self._shortest() or await self._new()
        try:
            return line, line.tell(job, descriptor)
        except ChildGone:
            self._close(line)
            if line:
                # Whoever it was working for will notice, and end it.
                raise NotBegun from None
            await self._end(line)
            raise

    def answered(self, line: Line) -> None:
        """The first job of a line is answered."""
        line.next()
        if not line:
            self._close(line)
            self._children.give_back(line.child)
            self._children.give_slot_back()

    async def lose(self, line: Line) -> None:
        """End the child of a line, which failed at its first job."""
        self._close(line)
        line.dissolve()
        await self._end(line)

    def _shortest(self) -> Line | None:
        """The line to join; None when there may be another one."""
        joinable = [line for line in self._open if line.child.served < self._jobs_per_child]
        shortest = min(joinable, key=len, default=None)
        return None if shortest and not self._children.slots.locked() else shortest

    async def _new(self) -> Line:
        await self._children.slots.acquire()
        try:
            line = Line(await self._children.take(), self._most)
        except BaseException:
            self._children.give_slot_back()
            raise
        self._open.append(line)
        return line

    def _close(self, line: Line) -> None:
        if line in self._open:
            self._open.remove(line)

    async def _end(self, line: Line) -> None:
        try:
            await self._children.end(line.child)
        finally:
            self._children.give_slot_back()

"""Takes the jobs of one queue, beside those of the others in the same process."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Any, cast

import structlog
from saq import Job, Queue, Status, Worker
from valkey.exceptions import ValkeyError

from chitram.platform.background import OutboxRunner
from chitram.platform.queue import OUTBOX_JOB

# Longest wait for a job before asking again. Clients need more patience than that for an answer.
DEQUEUE_SECONDS = 5.0
# Work that gives way looks this often whether its turn has come.
_YIELD_SECONDS = 0.25
# While more urgent work never ends, one job of each lesser queue is begun in this time.
PATIENCE_SECONDS = 30.0
_AT_ONCE_SECONDS = 0.01
_RETRY_SECONDS = 1.0
_AGAIN_SECONDS = 0.1
# To hand back what was not finished; a transaction takes no longer.
_HAND_BACK_SECONDS = 4.0

_log = structlog.get_logger("chitram.worker")


class QueueWorker(Worker[Any]):
    """SAQ's worker without its housekeeping: what is stuck, late or retried is the outbox's business.

    Its sweep waits five seconds for each job of a dead worker in turn, and takes away jobs of the
    living that have not said yet that they began.

    Args:
        queue: whose jobs it takes.
        runner: does them.
        concurrency: so many at once.
        after: workers of this process to which this one gives way: it begins nothing while one of
            them is at work or work waits in its queue, for `PATIENCE_SECONDS` at most.
    """

    def __init__(
        self, queue: Queue, runner: OutboxRunner, concurrency: int, after: Sequence[QueueWorker] = ()
    ) -> None:
        super().__init__(
            queue,
            functions=[(OUTBOX_JOB, runner.run)],
            concurrency=concurrency,
            # Who gives way may not be found waiting for work when there is more urgent work.
            dequeue_timeout=_AT_ONCE_SECONDS if after else DEQUEUE_SECONDS,
        )
        self.SIGNALS = []
        self._after = after
        self._gives_way_since: float | None = None
        self._is_draining = False
        self._misses_queue = False
        self._at_work: set[asyncio.Task[Any]] = set()
        self._idle = asyncio.Event()
        self._idle.set()

    async def upkeep(self) -> list[asyncio.Task[None]]:
        """No housekeeping."""
        return []

    def _process(self, previous_task: asyncio.Task[Any] | None = None) -> None:
        if not self._is_draining:
            super()._process(previous_task)

    async def process(self) -> bool:
        """Take one job, when there is one and its turn has come; else wait a little."""
        try:
            if await self._may_take():
                self._misses_queue = False
                return await super().process()
            await self._pause(_YIELD_SECONDS)
        except (ValkeyError, OSError) as error:
            if not self._misses_queue:
                _log.warning("queue unreachable", queue=self.queue.name, cause=type(error).__name__)
            self._misses_queue = True
            await self._pause(_RETRY_SECONDS)
        return False

    async def _may_take(self) -> bool:
        if not self._after:
            return True
        if not await self.queue.count("queued"):
            self._gives_way_since = None
            return False
        if not await self._is_somebody_first():
            self._gives_way_since = None
            return True
        now = time.monotonic()
        if self._gives_way_since is None:
            self._gives_way_since = now
        if now - self._gives_way_since < PATIENCE_SECONDS:
            return False
        self._gives_way_since = now
        return True

    async def _is_somebody_first(self) -> bool:
        for other in self._after:
            if other._at_work or await other.queue.count("queued"):  # noqa: SLF001 - one of its own class
                return True
        return False

    async def _pause(self, seconds: float) -> None:
        await _first_of(seconds, self.event)

    async def run_until(self, stop: asyncio.Event, at_once: asyncio.Event, *, grace_seconds: float) -> None:
        """Take jobs until `stop`, and finish those under way.

        What is not finished `grace_seconds` later, or when `at_once` is set, is handed back.
        """
        running = asyncio.create_task(self.start())
        # It makes the event that ends it in its first step: set before, it would go unnoticed.
        await asyncio.sleep(0)
        await stop.wait()
        self._is_draining = True
        await self._stop_taking()
        await _first_of(grace_seconds, self._idle, at_once)
        unfinished = [context["task"] for context in self.job_task_contexts.values()]
        for job in unfinished:
            job.cancel()
        if unfinished:
            _log.info("jobs handed back", queue=self.queue.name, jobs=len(unfinished))
            await _first_of(_HAND_BACK_SECONDS, self._idle)
        self.event.set()
        await running

    async def _stop_taking(self) -> None:
        """Wait for jobs no longer; whoever has just got one is at work."""
        while waiting := {task for task in self.tasks if not task.done()} - self._at_work:
            for task in waiting:
                task.cancel()
            # Not for ever: `asyncio.wait_for` of Python 3.11 in the client may swallow it.
            await asyncio.wait(waiting, timeout=_AGAIN_SECONDS)

    async def _before_process(self, ctx: object) -> None:  # noqa: ARG002 - SAQ's
        self._at_work.add(_this_task())
        self._idle.clear()

    async def _after_process(self, ctx: dict[str, Any]) -> None:
        try:
            job: Job = ctx["job"]
            if job.status is Status.ACTIVE:
                # Cancelled: the outbox has it back, and whoever comes next need not look for it.
                await job.retry("handed back")
        finally:
            self._at_work.discard(_this_task())
            if not self._at_work:
                self._idle.set()


def _this_task() -> asyncio.Task[Any]:
    return cast("asyncio.Task[Any]", asyncio.current_task())


async def _first_of(seconds: float, *events: asyncio.Event) -> None:
    """Wait for one of several events, or for so long."""
    waiting = [asyncio.ensure_future(event.wait()) for event in events]
    await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()


def is_no_outage(record: logging.LogRecord) -> bool:
    """A filter for SAQ's log: one line of ours says that Valkey is away, no traceback for each try."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, (ValkeyError, OSError))

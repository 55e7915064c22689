"""The background worker: what the outbox owes, and what is due by the clock."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from typing import Any

import structlog
from dishka import AsyncContainer
from saq import Queue, Worker
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from valkey.exceptions import ValkeyError

from chitram.images.use_cases.backfill_dimensions import BackfillDimensions
from chitram.images.use_cases.clear_uploads import ClearUploads
from chitram.images.use_cases.expire_images import ExpireImages
from chitram.images.use_cases.forget_keys import ForgetKeys
from chitram.main.container import JOBS, make_container
from chitram.main.stores import require_stores
from chitram.platform.background import OutboxRunner, every
from chitram.platform.database import SqlUnitOfWork
from chitram.platform.logging import configure_logging
from chitram.platform.outbox import Relay
from chitram.platform.queue import OUTBOX_JOB, make_queue
from chitram.platform.settings import Settings
from chitram.platform.spool import make_spool
from chitram.platform.valkey import make_valkey

SWEEP_SECONDS = 2.0
EXPIRE_SECONDS = 10.0
BACKFILL_SECONDS = 3600.0
CLEAR_SECONDS = 60.0
FORGET_SECONDS = 600.0
_CONCURRENCY = 8
_DEQUEUE_SECONDS = 5.0
_STOP_SECONDS = 20
_ROUND_SECONDS = 3
_RETRY_SECONDS = 1.0
_LEAVE_SECONDS = 1.0

_log = structlog.get_logger("chitram.worker")


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Work until `stop` is set, then finish what is under way."""
    container = make_container(settings)
    # Waiting for work takes longer than any other command may.
    waiting = make_queue(make_valkey(settings, command_seconds=2 * _DEQUEUE_SECONDS))
    try:
        runner = await _runner(container)
        expire = await container.get(ExpireImages)
        backfill = await container.get(BackfillDimensions)
        clear = await container.get(ClearUploads)
        forget = await container.get(ForgetKeys)
        worker = DrainingWorker(
            waiting,
            functions=[(OUTBOX_JOB, runner.run)],
            concurrency=_CONCURRENCY,
            dequeue_timeout=_DEQUEUE_SECONDS,
        )
        queue = await container.get(Queue)
        rounds = [
            asyncio.create_task(every(SWEEP_SECONDS, "sweep", lambda: runner.sweep(queue), stop)),
            asyncio.create_task(every(EXPIRE_SECONDS, "expire", expire, stop)),
            asyncio.create_task(every(CLEAR_SECONDS, "uploads", clear, stop)),
            asyncio.create_task(every(FORGET_SECONDS, "keys", forget, stop)),
            asyncio.create_task(every(BACKFILL_SECONDS, "backfill", backfill, stop)),
        ]
        _log.info("ready")
        await worker.run_until(stop)
        # Each of them may be stopped anywhere: what it leaves undone is there for the next start.
        _, unfinished = await asyncio.wait(rounds, timeout=_ROUND_SECONDS)
        for task in unfinished:
            task.cancel()
        await asyncio.gather(*rounds, return_exceptions=True)
    finally:
        # Taking leave of a server that is away fails, or takes for ever.
        with contextlib.suppress(ValkeyError, OSError):
            async with asyncio.timeout(_LEAVE_SECONDS):
                await waiting.disconnect()
        await container.close()


async def _runner(container: AsyncContainer) -> OutboxRunner:
    sessions = await container.get(async_sessionmaker[AsyncSession])
    relay = await container.get(Relay)
    jobs = [await container.get(job) for job in JOBS]
    return OutboxRunner(lambda: SqlUnitOfWork(sessions, relay), jobs)


class DrainingWorker(Worker[Any]):
    """SAQ's worker, but stopped by us: it finishes the jobs under way and takes no more.

    Its own graceful stop waits for its housekeeping too, which sleeps for a minute.
    """

    _draining = False
    _missing_queue = False

    def _process(self, previous_task: asyncio.Task[Any] | None = None) -> None:
        if not self._draining:
            super()._process(previous_task)

    async def process(self) -> bool:
        """Take one job; while Valkey is away, wait instead of asking again at once."""
        try:
            await self.queue.count("queued")
        except (ValkeyError, OSError) as error:
            if not self._missing_queue:
                _log.warning("queue unreachable", cause=type(error).__name__)
            self._missing_queue = True
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_RETRY_SECONDS):
                    await self.event.wait()
            return False
        self._missing_queue = False
        return await super().process()

    async def run_until(self, stop: asyncio.Event) -> None:
        """Take jobs until `stop`; what is not finished in time is handed back to the outbox."""
        self.SIGNALS = []
        running = asyncio.create_task(self.start())
        # It makes the event that ends it in its first step: set before, it would go unnoticed.
        await asyncio.sleep(0)
        await stop.wait()
        self._draining = True
        if jobs := [context["task"] for context in self.job_task_contexts.values()]:
            await asyncio.wait(jobs, timeout=_STOP_SECONDS)
        self.event.set()
        await running


def _is_no_outage(record: logging.LogRecord) -> bool:
    """Drop the traceback that SAQ writes every second without Valkey; one line of ours says so."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, (ValkeyError, OSError))


def run(settings: Settings) -> int:
    """Work until SIGTERM or SIGINT."""
    configure_logging(settings)
    logging.getLogger("saq").addFilter(_is_no_outage)
    make_spool(settings)

    async def main() -> None:
        await require_stores(settings)
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await serve(settings, stop)

    asyncio.run(main())
    return 0

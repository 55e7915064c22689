"""The background worker: what the outbox owes, and what is due by the clock."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import structlog
from dishka import AsyncContainer
from saq import Worker
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from chitram.images.entrypoints.jobs import DeleteBlobJob
from chitram.images.use_cases.backfill_dimensions import BackfillDimensions
from chitram.images.use_cases.expire_images import ExpireImages
from chitram.main.container import JOB_KINDS, make_container
from chitram.platform.background import Job, OutboxRunner, every
from chitram.platform.database import SqlUnitOfWork
from chitram.platform.logging import configure_logging
from chitram.platform.outbox import Relay
from chitram.platform.queue import OUTBOX_JOB, make_queue
from chitram.platform.settings import Settings, spool_dir
from chitram.platform.valkey import make_valkey

SWEEP_SECONDS = 2.0
EXPIRE_SECONDS = 10.0
BACKFILL_SECONDS = 3600.0
_CONCURRENCY = 8
_DEQUEUE_SECONDS = 5.0
_STOP_SECONDS = 20

_log = structlog.get_logger("chitram.worker")


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Work until `stop` is set, then finish what is under way."""
    container = make_container(settings)
    client = make_valkey(settings, blocking=True)
    queue = make_queue(client)
    try:
        runner = await _runner(container)
        expire = await container.get(ExpireImages)
        backfill = await container.get(BackfillDimensions)
        worker = DrainingWorker(
            queue,
            functions=[(OUTBOX_JOB, runner.run)],
            concurrency=_CONCURRENCY,
            dequeue_timeout=_DEQUEUE_SECONDS,
        )
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(worker.run_until(stop))
            tasks.create_task(every(SWEEP_SECONDS, "sweep", lambda: runner.sweep(queue), stop))
            tasks.create_task(every(EXPIRE_SECONDS, "expire", expire, stop))
            tasks.create_task(every(BACKFILL_SECONDS, "backfill", backfill, stop))
            _log.info("ready")
    finally:
        await queue.disconnect()
        await container.close()


async def _runner(container: AsyncContainer) -> OutboxRunner:
    sessions = await container.get(async_sessionmaker[AsyncSession])
    relay = await container.get(Relay)
    delete_blob = await container.get(DeleteBlobJob)
    jobs: dict[str, Job] = {delete_blob.kind: delete_blob}
    if set(jobs) != set(JOB_KINDS):
        raise AssertionError("JOB_KINDS does not say what this worker can do")
    return OutboxRunner(lambda: SqlUnitOfWork(sessions, relay), jobs)


class DrainingWorker(Worker[Any]):
    """SAQ's worker, but stopped by us: it finishes the jobs under way and takes no more.

    Its own graceful stop waits for its housekeeping too, which sleeps for a minute.
    """

    _draining = False

    def _process(self, previous_task: asyncio.Task[Any] | None = None) -> None:
        if not self._draining:
            super()._process(previous_task)

    async def run_until(self, stop: asyncio.Event) -> None:
        """Take jobs until `stop`; what is not finished in time is handed back to the outbox."""
        self.SIGNALS = []
        running = asyncio.create_task(self.start())
        await stop.wait()
        self._draining = True
        if jobs := [context["task"] for context in self.job_task_contexts.values()]:
            await asyncio.wait(jobs, timeout=_STOP_SECONDS)
        self.event.set()
        await running


def run(settings: Settings) -> int:
    """Work until SIGTERM or SIGINT."""
    configure_logging(settings)
    spool_dir(settings).mkdir(parents=True, exist_ok=True)

    async def main() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await serve(settings, stop)

    asyncio.run(main())
    return 0

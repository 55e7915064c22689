"""The background worker: what the outbox owes, and what is due by the clock."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import AsyncIterator, Sequence

import structlog
import uvloop
from dishka import AsyncContainer, Provider
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from valkey.asyncio import Valkey
from valkey.exceptions import ValkeyError

from chitram.main.container import JOBS, make_container, make_queues
from chitram.main.rounds import make_rounds
from chitram.main.stores import require_stores
from chitram.platform.attempts import LEASE
from chitram.platform.background import OutboxRunner
from chitram.platform.database import SqlUnitOfWork
from chitram.platform.logging import configure_logging
from chitram.platform.loops import repeat
from chitram.platform.outbox import Relay
from chitram.platform.queue import JobQueues, QueueName
from chitram.platform.queue_worker import DEQUEUE_SECONDS, QueueWorker, is_no_outage
from chitram.platform.schedule import Schedule
from chitram.platform.settings import Settings, renderer_count
from chitram.platform.spool import make_spool
from chitram.platform.statements import Statements
from chitram.platform.sweep import Sweep
from chitram.platform.valkey import make_valkey

_URGENT_JOBS = 8
# What is under way has this long to end; rounds can be stopped anywhere.
_STOP_SECONDS = 20.0
_ROUND_SECONDS = 3.0
_LEAVE_SECONDS = 1.0
# Who answers requests on the same machine goes first: under load the API has nine times the worker's share.
_NICENESS = 10

_log = structlog.get_logger("chitram.worker")


async def serve(
    settings: Settings,
    stop: asyncio.Event,
    at_once: asyncio.Event | None = None,
    *,
    others: Sequence[Provider] = (),
) -> None:
    """Work until `stop`, then finish what is under way; hand it back when `at_once` is set.

    `others` as in `make_container`.
    """
    container = make_container(settings, *others)
    try:
        async with _waiting_queues(settings) as queues:
            await _work(container, queues, stop, at_once or asyncio.Event())
    finally:
        await container.close()


async def _work(
    container: AsyncContainer, queues: JobQueues, stop: asyncio.Event, at_once: asyncio.Event
) -> None:
    sessions = await container.get(async_sessionmaker[AsyncSession])
    relay = await container.get(Relay)
    client = await container.get(Valkey)
    renderers = renderer_count(await container.get(Settings))

    def begin() -> SqlUnitOfWork:
        return SqlUnitOfWork(sessions, relay)

    jobs = [await container.get(job) for job in JOBS]
    runner = OutboxRunner(begin, await container.get(Statements), jobs)
    rounds = await make_rounds(container, Sweep(begin, await container.get(JobQueues)))
    schedule = Schedule(begin, rounds, runner.worker)
    ended = asyncio.Event()
    third = LEASE.total_seconds() / 3
    alive = [
        asyncio.create_task(repeat(third, "lease of jobs", runner.renew, ended)),
        asyncio.create_task(repeat(third, "lease of rounds", schedule.renew, ended)),
        asyncio.create_task(repeat(third, "report", lambda: runner.tally.tell(client, runner.worker), ended)),
    ]
    _log.info("ready")
    try:
        await asyncio.gather(
            schedule.run_until(stop, grace_seconds=_ROUND_SECONDS),
            *(
                worker.run_until(stop, at_once, grace_seconds=_STOP_SECONDS)
                for worker in _queue_workers(queues, runner, renderers)
            ),
        )
    finally:
        ended.set()
        await asyncio.gather(*alive)
        with contextlib.suppress(ValkeyError, OSError):
            await runner.tally.leave(client, runner.worker)


def _queue_workers(queues: JobQueues, runner: OutboxRunner, renderers: int) -> list[QueueWorker]:
    """A worker for each queue. What nobody waits for gives way to what somebody does."""
    urgent = QueueWorker(queues[QueueName.URGENT], runner, _URGENT_JOBS)
    # More than can be rendered at once: one fetches its original meanwhile, one puts what was made of it.
    thumbnails = QueueWorker(queues[QueueName.THUMBNAILS], runner, renderers + 2)
    optimise = QueueWorker(queues[QueueName.OPTIMISE], runner, 1, after=[thumbnails])
    upkeep = QueueWorker(queues[QueueName.UPKEEP], runner, 1, after=[thumbnails, optimise])
    return [urgent, thumbnails, optimise, upkeep]


@contextlib.asynccontextmanager
async def _waiting_queues(settings: Settings) -> AsyncIterator[JobQueues]:
    """The queues over a client of its own: waiting for work takes longer than any other command may."""
    client = make_valkey(settings, command_seconds=2 * DEQUEUE_SECONDS)
    try:
        yield make_queues(client)
    finally:
        # Taking leave of a server that is away fails, or takes for ever.
        with contextlib.suppress(ValkeyError, OSError):
            async with asyncio.timeout(_LEAVE_SECONDS):
                await client.aclose()


def run(settings: Settings, *others: Provider) -> int:
    """Work until SIGTERM or SIGINT; a second one does not wait for what is under way."""
    os.nice(_NICENESS)
    configure_logging(settings)
    logging.getLogger("saq").addFilter(is_no_outage)
    make_spool(settings)

    async def main() -> None:
        await require_stores(settings)
        stop, at_once = asyncio.Event(), asyncio.Event()

        def on_signal() -> None:
            (at_once if stop.is_set() else stop).set()

        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, on_signal)
        await serve(settings, stop, at_once, others=others)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
    return 0

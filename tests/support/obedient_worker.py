"""The worker as it is run, with jobs that do what a test tells them.

Each job connects to the test, says who it is, and does what it is told: finish, fail, or wait.
"""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import timedelta
from unittest import mock

from dishka import Provider, Scope, provide
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from chitram.platform import attempts

if lease := os.environ.get("TEST_LEASE_SECONDS"):
    attempts.LEASE = timedelta(seconds=float(lease))

from chitram.main import container, worker
from chitram.platform import queue_worker, sweep
from chitram.platform.background import Job
from chitram.platform.database import SqlUnitOfWork
from chitram.platform.outbox import OutboxEntry, Relay
from chitram.platform.queue import QueueName
from chitram.platform.settings import load_settings

KIND_PREFIX = "test."


class Obedient(Job):
    """Does what it is told over a socket."""

    seconds = 60.0
    attempts = 2

    def __init__(self, sessions: async_sessionmaker[AsyncSession], relay: Relay) -> None:
        self._sessions = sessions
        self._relay = relay

    async def __call__(self, entry: OutboxEntry) -> None:
        reader, writer = await asyncio.open_unix_connection(os.environ["TEST_SOCKET"])
        try:
            writer.write(f"{os.getpid()} {entry.id} {self.queue}\n".encode())
            told = (await reader.readline()).decode().strip()
        finally:
            writer.close()
        if told != "finish":
            raise ValueError(told)
        async with SqlUnitOfWork(self._sessions, self._relay) as transaction:
            await transaction.outbox.done(entry.id)
            await transaction.commit()


class UrgentJob(Obedient):
    kind = KIND_PREFIX + QueueName.URGENT
    queue = QueueName.URGENT


class ThumbnailsJob(Obedient):
    kind = KIND_PREFIX + QueueName.THUMBNAILS
    queue = QueueName.THUMBNAILS


class OptimiseJob(Obedient):
    kind = KIND_PREFIX + QueueName.OPTIMISE
    queue = QueueName.OPTIMISE


class UpkeepJob(Obedient):
    kind = KIND_PREFIX + QueueName.UPKEEP
    queue = QueueName.UPKEEP


class Jobs(Provider):
    scope = Scope.APP
    urgent = provide(UrgentJob)
    thumbnails = provide(ThumbnailsJob)
    optimise = provide(OptimiseJob)
    upkeep = provide(UpkeepJob)


def main() -> int:
    jobs = (UrgentJob, ThumbnailsJob, OptimiseJob, UpkeepJob)
    with (
        mock.patch.object(container, "JOBS", jobs),
        mock.patch.object(worker, "JOBS", jobs),
        mock.patch.object(sweep, "_SUSPECT_SECONDS", 1.0),
        mock.patch.object(
            queue_worker, "PATIENCE_SECONDS", float(os.environ.get("TEST_PATIENCE_SECONDS", "30"))
        ),
    ):
        return worker.run(load_settings(), Jobs())


if __name__ == "__main__":
    sys.exit(main())

"""How long a job rests whose worker was killed."""

from __future__ import annotations

import sys
import time
from contextlib import AsyncExitStack

import pytest

from chitram.platform.queue import QueueName
from tests.support.database import Database
from tests.support.servers import own_valkey
from tests.support.workers import WorkerProcess, jobs_of, running_worker

KILLS = 5
# The lease, the next look at the clock, the next sweep; and what a busy machine adds.
LONGEST_SECONDS = 20.0


@pytest.mark.long
async def test_the_job_of_a_killed_worker_is_soon_done_by_another(
    database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    rests: list[float] = []
    async with jobs_of(database) as jobs, AsyncExitStack() as stack:
        valkey = stack.enter_context(own_valkey())

        async def start() -> None:
            environment = {"TEST_SOCKET": str(jobs.socket)}
            worker = await stack.enter_async_context(running_worker(database.url, valkey.url, environment))
            workers[worker.pid] = worker

        workers: dict[int, WorkerProcess] = {}
        await start()
        for _ in range(KILLS):
            await start()
            await jobs.add(QueueName.THUMBNAILS)
            begun = await jobs.next()
            killed = workers.pop(begun.pid)
            await killed.kill()
            died = time.monotonic()
            again = await jobs.next()
            rests.append(time.monotonic() - died)
            assert again.entry_id == begun.entry_id
            await again.tell("finish")
            await jobs.all_done()
    with capsys.disabled():
        told = ", ".join(f"{rest:.1f}" for rest in rests)
        sys.stdout.write(f"\nseconds from the kill of a worker until another is at its job: {told}\n")
    assert max(rests) < LONGEST_SECONDS

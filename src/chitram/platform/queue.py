"""The background queue: SAQ on Valkey, fed from the outbox."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from typing import Any, cast

import structlog
from saq import Queue
from saq.queue.redis import RedisQueue
from valkey.asyncio import Valkey
from valkey.exceptions import ValkeyError

from chitram.platform.outbox import OutboxEntry

QUEUE_NAME = "chitram"
# One job function for all kinds: what is to be done stands in the outbox row.
OUTBOX_JOB = "run_outbox_entry"
JOB_SECONDS = 120
# Forget finished jobs quickly: their key would keep the same entry from being enqueued again.
_RESULT_SECONDS = 1

_log = structlog.get_logger("chitram.queue")


def make_queue(client: Valkey) -> Queue:
    """Make the queue over a Valkey client, which speaks the protocol that SAQ expects of redis-py."""
    return RedisQueue(cast("Any", client), name=QUEUE_NAME)


async def enqueue(queue: Queue, entry: OutboxEntry) -> None:
    """Hand one entry to the queue; a second time while it is there does nothing."""
    await queue.enqueue(
        OUTBOX_JOB,
        key=str(entry.id),
        entry_id=str(entry.id),
        timeout=JOB_SECONDS,
        retries=1,  # attempts are counted in the outbox, which survives the queue
        ttl=_RESULT_SECONDS,
    )


class QueueRelay:
    """Enqueues what a commit owes, beside the request. The sweep catches what fails here."""

    def __init__(self, queue: Queue, kinds: Collection[str]) -> None:
        self._queue = queue
        self._kinds = frozenset(kinds)
        self._tasks: set[asyncio.Task[None]] = set()

    def notify(self, entries: Sequence[OutboxEntry]) -> None:
        wanted = [entry for entry in entries if entry.kind in self._kinds]
        if wanted:
            task = asyncio.get_running_loop().create_task(self._enqueue(wanted))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _enqueue(self, entries: Sequence[OutboxEntry]) -> None:
        try:
            for entry in entries:
                await enqueue(self._queue, entry)
        except (ValkeyError, OSError) as error:
            _log.warning("queue unreachable", cause=type(error).__name__)

    async def drain(self) -> None:
        """Wait for what is on its way to the queue."""
        if self._tasks:
            await asyncio.wait(self._tasks)

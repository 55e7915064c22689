"""The background queue: SAQ on Valkey, fed from the outbox."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Sequence
from enum import StrEnum
from typing import Any, cast

from saq import Queue
from saq.queue.redis import RedisQueue
from valkey.asyncio import Valkey

from chitram.platform.outbox import OutboxEntry
from chitram.platform.valkey import ValkeyGuard, ValkeyUnavailable

QUEUE_NAME = "chitram"
# One job function for all kinds: what is to be done stands in the outbox row.
OUTBOX_JOB = "run_outbox_entry"
# Forget finished jobs quickly: their key would keep the same entry from being enqueued again.
_RESULT_SECONDS = 1
_ENQUEUE_SECONDS = 1.0
_LONGEST_JOB_SECONDS = 3600


class QueueName(StrEnum):
    """The queues, the most urgent first."""

    # Somebody must not see something any more, or space has to be freed; short.
    URGENT = "urgent"
    # Thumbnails of what was just uploaded.
    THUMBNAILS = "thumbnails"
    # What makes good images better.
    OPTIMISE = "optimise"
    # What nobody waits for.
    UPKEEP = "upkeep"


def make_queue(client: Valkey) -> Queue:
    """Make the queue over a Valkey client, which speaks the protocol that SAQ expects of redis-py."""
    return RedisQueue(cast("Any", client), name=QUEUE_NAME)


async def enqueue(queue: Queue, entry: OutboxEntry) -> None:
    """Hand one entry to the queue; a second time while it is there does nothing."""
    await queue.enqueue(
        OUTBOX_JOB,
        key=str(entry.id),
        entry_id=str(entry.id),
        timeout=_LONGEST_JOB_SECONDS,
        retries=1,  # attempts are counted in the outbox, which survives the queue
        ttl=_RESULT_SECONDS,
    )


class QueueRelay:
    """Enqueues what a commit owes, beside the request. The sweep catches what fails here.

    Args:
        queue: takes the entries.
        kinds: of entries that it gets.
        guard: lets nothing pile up while Valkey is away.
    """

    def __init__(self, queue: Queue, kinds: Collection[str], guard: ValkeyGuard) -> None:
        self._queue = queue
        self._kinds = frozenset(kinds)
        self._guard = guard
        self._tasks: set[asyncio.Task[None]] = set()

    def notify(self, entries: Sequence[OutboxEntry]) -> None:
        wanted = [entry for entry in entries if entry.kind in self._kinds]
        if wanted:
            task = asyncio.get_running_loop().create_task(self._enqueue(wanted))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _enqueue(self, entries: Sequence[OutboxEntry]) -> None:
        async def hand_over(_: Valkey) -> None:
            for entry in entries:
                await enqueue(self._queue, entry)

        with contextlib.suppress(ValkeyUnavailable):
            await self._guard.call(hand_over, seconds=_ENQUEUE_SECONDS)

    async def drain(self) -> None:
        """Wait for what is on its way to the queue."""
        if self._tasks:
            await asyncio.wait(self._tasks)

"""The background queues: SAQ on Valkey, fed from the outbox."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Collection, Iterable, Mapping, Sequence
from enum import StrEnum
from functools import partial
from typing import Any, cast
from uuid import UUID

import structlog
from saq import Job, Status
from saq.queue.redis import RedisQueue
from valkey.asyncio import Valkey
from valkey.exceptions import ValkeyError

from chitram.platform.outbox import OutboxEntry
from chitram.platform.valkey import Script, ValkeyGuard, ValkeyUnavailable

# One job function for all kinds: what is to be done stands in the outbox row.
OUTBOX_JOB = "run_outbox_entry"
# Forget what is finished at once.
_NO_RESULT = -1
# Neither a time limit nor a heartbeat of the queue's own: the outbox knows who is at an entry, and
# whoever is at it looks at the clock.
_NO_LIMIT = 0
_ENQUEUE_SECONDS = 1.0
# Telling the queue of one entry costs what telling it of twenty does.
_GAP_SECONDS = 0.02
# Far more than is done between two sweeps. What is owed beyond that waits in the outbox: every waiting
# entry takes 600 bytes of Valkey, which refuses to hand anything out once it is full.
MOST_WAITING = 5000
# Until a queue that refused is asked again.
_REFUSED_SECONDS = 1.0
_PREFIX = "chitram-"
_MARK = "chitram:queues"

# Takes an entry out of the queue unless it waits there. Keys: waiting, active, all that is incomplete,
# the entry.
_FORGET = Script("""
if redis.call('LPOS', KEYS[1], KEYS[4]) then return 0 end
redis.call('LREM', KEYS[2], 0, KEYS[4])
redis.call('ZREM', KEYS[3], KEYS[4])
redis.call('DEL', KEYS[4])
return 1
""")
# Lets entries wait. Keys: all that is incomplete, waiting, the entries. The longest that the queue may be.
_OFFER = Script("""
local room = tonumber(ARGV[1]) - redis.call('LLEN', KEYS[2])
for i = 3, #KEYS do
  if room <= 0 then return end
  if not redis.call('ZSCORE', KEYS[1], KEYS[i]) then
    redis.call('ZADD', KEYS[1], 0, KEYS[i])
    redis.call('RPUSH', KEYS[2], KEYS[i])
    room = room - 1
  end
end
""")
# Lets entries wait, also those that only seem to be in the queue. Keys: waiting, active, all that is
# incomplete, the entries. For each: whether a worker has taken it that is dead.
_HAND_OVER = Script("""
for i = 4, #KEYS do
  local entry = KEYS[i]
  if not redis.call('LPOS', KEYS[1], entry) then
    if ARGV[i - 3] == 'dead' or not redis.call('LPOS', KEYS[2], entry) then
      redis.call('LREM', KEYS[2], 0, entry)
      redis.call('ZADD', KEYS[3], 0, entry)
      redis.call('RPUSH', KEYS[1], entry)
    end
  end
end
""")
# Entries in one such call, which keeps Valkey from everybody else.
_BATCH = 100

_log = structlog.get_logger("chitram.worker")


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


class _Queue(RedisQueue):
    """A queue that asks Valkey for nothing that the outbox knows, and whose refusals are heard of.

    All there is to know of a job stands in its key, and nobody follows what becomes of it: so taking
    one is one command, beginning it none, and ending it one transaction of three.

    SAQ's worker drops what `dequeue` raises and asks again at once: a Valkey that answers, but hands
    out nothing because it is full or a replica, would keep a processor busy without a word.
    """

    def __init__(self, client: Valkey, name: str) -> None:
        super().__init__(cast("Any", client), name=name)
        self._refuses = False

    async def dequeue(self, timeout: float = 0.0, poll_interval: float = 0.0) -> Job | None:  # noqa: ARG002, ASYNC109 - SAQ's
        try:
            job_id = await self.redis.blmove(
                self._queued, self._active, cast("int", timeout), "LEFT", "RIGHT"
            )
        except (ValkeyError, OSError) as error:
            if not self._refuses:
                _log.warning("queue hands out nothing", queue=self.name, cause=type(error).__name__)
            self._refuses = True
            await asyncio.sleep(_REFUSED_SECONDS)
            return None
        self._refuses = False
        return None if job_id is None else self._job(self.job_key_from_id(job_id.decode()))

    def _job(self, entry_id: str) -> Job:
        return Job(
            function=OUTBOX_JOB,
            kwargs={"entry_id": entry_id},
            queue=self,
            key=entry_id,
            timeout=_NO_LIMIT,
            heartbeat=_NO_LIMIT,
            retries=1,  # attempts are counted in the outbox, which survives the queue
            ttl=_NO_RESULT,
        )

    async def offer(self, entry_ids: Iterable[str], most: int) -> None:
        """Let entries wait, unless they are in the queue already, or `most` wait there."""
        keys = [self._incomplete, self._queued, *map(self.job_id, entry_ids)]
        await _OFFER.execute(cast("Valkey", self.redis), keys, most)

    async def _update(self, job: Job, status: Status | None = None, **_: object) -> None:
        """Say nothing to Valkey: what is under way stands in the outbox."""
        job.status = status or job.status

    async def notify(self, job: Job) -> None:
        """Tell nobody: nobody listens."""


class JobQueues:
    """The queues over one Valkey. Every method may raise `ValkeyError` and `OSError`.

    Args:
        client: of Valkey, which speaks the protocol that SAQ expects of redis-py.
        kinds: of entries that are taken, and where those of each wait.
    """

    def __init__(self, client: Valkey, kinds: Mapping[str, QueueName]) -> None:
        self._client = client
        self._kinds = kinds
        self._queues = {name: _Queue(client, f"{_PREFIX}{name}") for name in QueueName}

    @property
    def kinds(self) -> Collection[str]:
        """Kinds of entries that are taken."""
        return self._kinds.keys()

    def kinds_of(self, name: QueueName) -> Collection[str]:
        """Kinds of entries that wait in a queue."""
        return [kind for kind, queue in self._kinds.items() if queue is name]

    def __getitem__(self, name: QueueName) -> RedisQueue:
        return self._queues[name]

    async def has_room(self, name: QueueName) -> bool:
        """Whether more should be handed over to a queue."""
        return await self._queues[name].count("queued") < MOST_WAITING

    async def enqueue(self, *entries: OutboxEntry) -> None:
        """Hand over entries until `MOST_WAITING` wait; again while one is there does nothing."""
        for name in {self._kinds[entry.kind]: None for entry in entries}:
            ids = [str(entry.id) for entry in entries if self._kinds[entry.kind] is name]
            for start in range(0, len(ids), _BATCH):
                await self._queues[name].offer(ids[start : start + _BATCH], MOST_WAITING)

    async def hand_over(self, name: QueueName, entries: Sequence[OutboxEntry]) -> None:
        """Hand over entries that belong to one queue and may only seem to be there."""
        queue = self._queues[name]
        parts = [queue.namespace(part) for part in ("queued", "active", "incomplete")]
        for start in range(0, len(entries), _BATCH):
            some = entries[start : start + _BATCH]
            keys = [queue.job_id(str(entry.id)) for entry in some]
            await _HAND_OVER.execute(
                self._client, [*parts, *keys], *("dead" if entry.is_abandoned else "" for entry in some)
            )

    async def taken(self, name: QueueName) -> set[UUID]:
        """Entries that were taken out of a queue by a worker, dead or alive, and not brought to an end."""
        queue = self._queues[name]
        ids = await cast("Awaitable[list[bytes]]", self._client.lrange(queue.namespace("active"), 0, -1))
        return {UUID(queue.job_key_from_id(job_id.decode())) for job_id in ids}

    async def forget(self, entry_id: UUID, name: QueueName) -> None:
        """Make room for an entry that a worker took, which is known to be dead. Where it waits, it stays."""
        queue = self._queues[name]
        parts = [queue.namespace(part) for part in ("queued", "active", "incomplete")]
        await _FORGET.execute(self._client, [*parts, queue.job_id(str(entry_id))])

    async def are_whole(self) -> bool:
        """Whether they hold all that they were given since `filled`.

        Not when Valkey was emptied or started again: then a mark is missing, or of another run.
        """
        mark = await self._client.get(_MARK)
        return mark is not None and mark.decode() == f"{await self._run()} filled"

    async def filling(self) -> None:
        """Say that everything is about to be handed over afresh."""
        await self._client.set(_MARK, await self._run())

    async def filled(self) -> None:
        """Say that it was; in vain when Valkey was emptied once more in between."""
        await self._client.set(_MARK, f"{await self._run()} filled", xx=True)

    async def _run(self) -> str:
        # What only speaks the protocol of Valkey may not tell.
        return str((await self._client.info("server")).get("run_id", "-"))


class QueueRelay:
    """Enqueues what a commit owes, beside the request. The sweep catches what fails here.

    Args:
        queues: take the entries of their kinds.
        guard: lets nothing pile up while Valkey is away.
    """

    def __init__(self, queues: JobQueues, guard: ValkeyGuard) -> None:
        self._queues = queues
        self._guard = guard
        self._waiting: list[OutboxEntry] = []
        self._task: asyncio.Task[None] | None = None
        self._told_at = float("-inf")

    def notify(self, entries: Sequence[OutboxEntry]) -> None:
        self._waiting += (entry for entry in entries if entry.kind in self._queues.kinds)
        if self._waiting and self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._relay())

    async def _relay(self) -> None:
        """Hand over what is owed: after a pause at once, otherwise all of `_GAP_SECONDS` together."""
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                await asyncio.sleep(self._told_at + _GAP_SECONDS - loop.time())
                self._told_at = loop.time()
                batch, self._waiting = self._waiting, []
                with contextlib.suppress(ValkeyUnavailable):
                    await self._guard.call(partial(self._hand_over, batch), seconds=_ENQUEUE_SECONDS)
        finally:
            self._task = None

    async def _hand_over(self, entries: Sequence[OutboxEntry], _: Valkey) -> None:
        await self._queues.enqueue(*entries)

    async def drain(self) -> None:
        """Wait for what is on its way to the queues."""
        if self._task is not None:
            await asyncio.wait((self._task,))

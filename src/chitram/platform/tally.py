"""Which workers are there, and what they did by the minute; as far as Valkey remembers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from enum import StrEnum
from uuid import UUID

from valkey.asyncio import Valkey

from chitram.platform.queue import QueueName

_KEEP_SECONDS = 3600
_MINUTE = 60
# Scores say until when a worker is believed to be there; docker/compose.yaml reads it too.
WORKERS = "chitram:workers"
_ALIVE_SECONDS = 15


class Outcome(StrEnum):
    """How an attempt ended."""

    DONE = "done"
    FAILED = "failed"


class Tally:
    """What this worker has done and not told yet."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def count(self, queue: QueueName, outcome: Outcome) -> None:
        self._counts[_field(queue, outcome)] += 1

    async def tell(self, client: Valkey, worker: UUID) -> None:
        """Report in, and add it to what all workers did in this minute.

        Raises `ValkeyError` and `OSError`.
        """
        counts, self._counts = self._counts, Counter()
        now = await _seconds(client)
        async with client.pipeline(transaction=True) as pipeline:
            pipeline.zremrangebyscore(WORKERS, 0, now)
            pipeline.zadd(WORKERS, {str(worker): now + _ALIVE_SECONDS})
            for field, number in counts.items():
                pipeline.hincrby(_key(now // _MINUTE), field, number)
            pipeline.expire(_key(now // _MINUTE), _KEEP_SECONDS)
            await pipeline.execute()

    @staticmethod
    async def leave(client: Valkey, worker: UUID) -> None:
        """Report out; raises `ValkeyError` and `OSError`."""
        await client.zrem(WORKERS, str(worker))


async def count_workers(client: Valkey) -> int:
    """How many workers reported in lately; raises `ValkeyError` and `OSError`."""
    return int(await client.zcount(WORKERS, await _seconds(client), "inf"))


async def read_tally(client: Valkey, minutes: int) -> Mapping[tuple[QueueName, Outcome], int]:
    """What all workers did in the last full minutes; raises `ValkeyError` and `OSError`."""
    now = await _seconds(client) // _MINUTE
    async with client.pipeline(transaction=False) as pipeline:
        for minute in range(now - minutes, now):
            pipeline.hgetall(_key(minute))
        found = await pipeline.execute()
    sums: Counter[str] = Counter()
    for counts in found:
        sums.update({field.decode(): int(number) for field, number in counts.items()})
    return {(queue, outcome): sums[_field(queue, outcome)] for queue in QueueName for outcome in Outcome}


def _field(queue: QueueName, outcome: Outcome) -> str:
    return f"{queue} {outcome}"


def _key(minute: int) -> str:
    return f"chitram:jobs:{minute}"


async def _seconds(client: Valkey) -> int:
    """The time by the server's clock, which is the same for all workers."""
    seconds, _ = await client.time()
    return int(seconds)

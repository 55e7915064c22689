"""How often the cache helped, counted in each process and summed up in Valkey."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import cast

import msgspec
from valkey.asyncio import Valkey

from chitram.platform.shared_cache.tally import Tally
from chitram.platform.valkey import ValkeyGuard

KEY = "chitram:metadata:statistics"
_SECONDS = 0.2


class Counts(Tally, kw_only=True):
    """Requests by where their answer came from, and what the cache did for them.

    These five add up to all requests that went through a cache.

    Attributes:
        local_hits: answered from memory of the process.
        shared_hits: answered from Valkey.
        local_missing: answered from memory that there is no such image.
        shared_missing: likewise from Valkey.
        misses: answered from the database.
    """

    local_hits: int = 0
    shared_hits: int = 0
    local_missing: int = 0
    shared_missing: int = 0
    misses: int = 0

    @property
    def hit_ratio(self) -> float | None:
        """Share of requests that the database was spared; None before the first."""
        spared = self.local_hits + self.shared_hits + self.local_missing + self.shared_missing
        total = spared + self.misses
        return spared / total if total else None


class Statistics:
    """The counts of this process since they were last handed over."""

    def __init__(self, guard: ValkeyGuard) -> None:
        self._guard = guard
        self.counts = Counts()

    async def flush(self) -> None:
        """Add the counts to the sums; keeps them when Valkey is away. Raises `ValkeyUnavailable`."""
        changed = {name: count for name, count in msgspec.structs.asdict(self.counts).items() if count}
        if not changed:
            return

        async def add(client: Valkey) -> None:
            pipeline = client.pipeline(transaction=False)
            for name, count in changed.items():
                pipeline.hincrby(KEY, name, count)
            await pipeline.execute()

        await self._guard.call(add, seconds=_SECONDS)
        for name, count in changed.items():
            setattr(self.counts, name, getattr(self.counts, name) - count)


async def read_sums(client: Valkey) -> Counts:
    """The counts of all processes since the last reset or the last start of Valkey."""
    found = await cast("Awaitable[dict[bytes, bytes]]", client.hgetall(KEY))
    known = {name.decode(): int(count) for name, count in found.items()}
    return msgspec.convert(known, Counts)


async def reset_sums(client: Valkey) -> None:
    """Start counting from nought."""
    await client.delete(KEY)

"""What all processes remember together, in Valkey: values, leases and tombstones.

A lease (Nishtala et al., "Scaling Memcache at Facebook", NSDI 2013, section 3.2.1) lies in the
place of the value that its holder goes to fetch. Only as long as it lies there the value is
accepted, so whatever removes it (an invalidation, a flush, its time) refuses a stale fill too.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from enum import Enum, auto
from typing import Generic
from uuid import UUID

import msgspec

from chitram.kernel.versions import GONE
from chitram.platform.shared_cache.codec import LEASE, MISSING, Codec, T, UnreadableValue
from chitram.platform.valkey import Script, ValkeyGuard

LOOK_SECONDS = 0.05
INVALIDATE_SECONDS = 0.1
MISSING_SECONDS = 5
# Of a life, so that what was asked for at once does not end at once.
_SPREAD = 0.25
# Beyond the longest time that the database is given to answer.
LEASE_SECONDS = 3
# Beyond the time that a replica may lag, or a fill be under way.
TOMBSTONE_SECONDS = 30

# Keys: value, tombstone. Arguments: lease, version of the value, value, its life in milliseconds.
_FILL = Script("""
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
local oldest = redis.call('GET', KEYS[2])
if oldest and tonumber(oldest) > tonumber(ARGV[2]) then
  redis.call('DEL', KEYS[1])
  return 0
end
redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4])
return 1
""")
# Key: value. Arguments: the value to replace, the lease, its life in milliseconds.
_TAKE_OVER = Script("""
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
""")
# Keys: value, tombstone. Arguments: oldest version that may be shown, life of the tombstone in
# seconds, the value to leave or nothing, the channel or nothing, what to say there.
_INVALIDATE = Script("""
local oldest = tonumber(ARGV[1])
if oldest > 0 then
  local known = tonumber(redis.call('GET', KEYS[2]) or 0)
  redis.call('SET', KEYS[2], math.max(known, oldest), 'EX', ARGV[2])
end
if ARGV[3] == '' then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], ARGV[3], 'EX', ARGV[2])
end
if ARGV[4] ~= '' then
  redis.call('PUBLISH', ARGV[4], ARGV[5])
end
return 1
""")


class Turn(Enum):
    """What to do about a key that the shared cache does not know."""

    FETCH = auto()  # the lease is yours: ask the database and fill
    WAIT = auto()  # another has the lease: look again soon


class Known(msgspec.Struct, Generic[T], frozen=True):
    """What the shared cache knows: a value, or that there is none."""

    value: T | None


class SharedEntries(Generic[T]):
    """One sort of values in the shared cache of a deployment. Every method raises `ValkeyUnavailable`.

    Args:
        guard: the way to Valkey.
        prefix: of all keys; names the sort.
        codec: how values are written.
        seconds: longest life of a value.
        seconds_of: life of a value that is to be kept for less; None for no less.
        version_of: version of a value; those without versions all have 1.
        channel: where every process is told of invalidations; empty for nowhere.
    """

    def __init__(
        self,
        guard: ValkeyGuard,
        prefix: str,
        codec: Codec[T],
        *,
        seconds: int,
        seconds_of: Callable[[T], int | None] = lambda _: None,
        version_of: Callable[[T], int] = lambda _: 1,
        channel: str = "",
    ) -> None:
        self._guard = guard
        self._prefix = prefix
        self._codec = codec
        self._seconds = seconds
        self._seconds_of = seconds_of
        self._version_of = version_of
        self._channel = channel

    async def peek(self, key: UUID | str, epoch: int) -> Known[T] | None:
        """Return what is known; None when nothing is, or somebody has gone to fetch it."""
        value = await self._guard.ask_on_run(
            lambda run: ("GET", self._name(run, epoch, key)), seconds=LOOK_SECONDS
        )
        if value is None or value.startswith(LEASE):
            return None
        try:
            return Known(self._codec.decode(value))
        except UnreadableValue:
            return None

    async def look(self, key: UUID | str, epoch: int, token: bytes) -> Known[T] | Turn:
        """Return what is known, or take the lease when nobody has it.

        Args:
            key: of what.
            epoch: cache epoch, part of the key.
            token: names the lease; never used for another.
        """
        lease = LEASE + token

        def command(run: str) -> tuple[str | bytes | int, ...]:
            return ("SET", self._name(run, epoch, key), lease, "NX", "GET", "PX", LEASE_SECONDS * 1000)

        value = await self._guard.ask_on_run(command, seconds=LOOK_SECONDS)
        if value is None or value == lease:
            return Turn.FETCH
        if value.startswith(LEASE):
            return Turn.WAIT
        try:
            return Known(self._codec.decode(value))
        except UnreadableValue:
            return await self._take_over(key, epoch, value, lease)

    async def _take_over(self, key: UUID | str, epoch: int, value: bytes, lease: bytes) -> Turn:
        """Put a lease in the place of another release's value."""
        taken = await self._guard.call(
            lambda client: _TAKE_OVER.execute_on_run(
                client, lambda run: self._names(run, epoch, key)[:1], value, lease, LEASE_SECONDS * 1000
            ),
            seconds=LOOK_SECONDS,
        )
        return Turn.FETCH if taken else Turn.WAIT

    async def fill(self, key: UUID | str, epoch: int, token: bytes, value: T | None) -> bool:
        """Put a value in the place of the lease; false when that is gone, or the value too old."""
        filled = await self._guard.call(
            lambda client: _FILL.execute_on_run(
                client,
                lambda run: self._names(run, epoch, key),
                LEASE + token,
                self._version_of(value) if value else 0,
                self._codec.encode(value),
                int(self._life_of(value) * 1000 * random.uniform(1 - _SPREAD, 1)),  # noqa: S311 - nothing to guess
            ),
            seconds=LOOK_SECONDS,
        )
        return bool(filled)

    def _life_of(self, value: T | None) -> int:
        own = MISSING_SECONDS if value is None else self._seconds_of(value)
        return self._seconds if own is None else min(own, self._seconds)

    async def invalidate(self, key: UUID | str, epoch: int, oldest: int) -> None:
        """Remove value and lease, refuse older fills for a while, and tell every process."""
        await self._guard.call(
            lambda client: _INVALIDATE.execute_on_run(
                client,
                lambda run: self._names(run, epoch, key),
                oldest,
                TOMBSTONE_SECONDS,
                MISSING if oldest == GONE else b"",
                self._channel,
                str(key),
            ),
            seconds=INVALIDATE_SECONDS,
        )

    def _name(self, run: str, epoch: int, key: UUID | str) -> str:
        """Where a value lies."""
        return f"{self._prefix}:{run}:{epoch}:{{{key}}}"

    def _names(self, run: str, epoch: int, key: UUID | str) -> list[str]:
        """Where value and tombstone lie. The braces keep them together where Valkey is a cluster."""
        name = self._name(run, epoch, key)
        return [name, f"{name}:oldest"]

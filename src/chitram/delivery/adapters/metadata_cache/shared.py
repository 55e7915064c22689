"""What all processes remember together, in Valkey: values, leases and tombstones.

A lease (Nishtala et al., "Scaling Memcache at Facebook", NSDI 2013, section 3.2.1) lies in the
place of the value that its holder goes to fetch. Only as long as it lies there the value is
accepted, so whatever removes it (an invalidation, a flush, its time) refuses a stale fill too.
"""

from __future__ import annotations

from enum import Enum, auto
from uuid import UUID

import msgspec

from chitram.delivery.adapters.metadata_cache.codec import LEASE, MISSING, UnreadableValue, decode, encode
from chitram.images.public import GONE, ImageView
from chitram.platform.valkey import Script, ValkeyGuard, execute_on_run

CHANNEL = "chitram:metadata:invalid"
LOOK_SECONDS = 0.05
INVALIDATE_SECONDS = 0.1
MISSING_SECONDS = 5
# Beyond the longest time that the database is given to answer.
LEASE_SECONDS = 3
# Beyond the time that a replica may lag, or a fill be under way.
TOMBSTONE_SECONDS = 30

# Keys: value, tombstone. Arguments: lease, version of the row, value, its life in milliseconds.
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
# seconds, the value to leave or nothing, the channel, the id.
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
redis.call('PUBLISH', ARGV[4], ARGV[5])
return 1
""")


class Turn(Enum):
    """What to do about an image that the shared cache does not know."""

    FETCH = auto()  # the lease is yours: ask the database and fill
    WAIT = auto()  # another has the lease: look again soon


class Known(msgspec.Struct, frozen=True):
    """What the shared cache knows: an image, or that there is none."""

    view: ImageView | None


class SharedEntries:
    """The shared cache of one deployment. Every method raises `ValkeyUnavailable`.

    Args:
        guard: the way to Valkey.
        seconds: life of an image's entry.
    """

    def __init__(self, guard: ValkeyGuard, seconds: int) -> None:
        self._guard = guard
        self._seconds = seconds

    async def look(self, image_id: UUID, epoch: int, token: bytes) -> Known | Turn:
        """Return what is known, or take the lease when nobody has it.

        Args:
            image_id: which image.
            epoch: cache epoch, part of the key.
            token: names the lease; never used for another.
        """
        lease = LEASE + token

        def command(run: str) -> tuple[str | bytes | int, ...]:
            return ("SET", _key(run, epoch, image_id), lease, "NX", "GET", "PX", LEASE_SECONDS * 1000)

        value = await self._guard.call(lambda client: execute_on_run(client, command), seconds=LOOK_SECONDS)
        if value is None or value == lease:
            return Turn.FETCH
        if value.startswith(LEASE):
            return Turn.WAIT
        try:
            return Known(decode(value))
        except UnreadableValue:
            return await self._take_over(image_id, epoch, value, lease)

    async def _take_over(self, image_id: UUID, epoch: int, value: bytes, lease: bytes) -> Turn:
        """Put a lease in the place of another release's value."""
        taken = await self._guard.call(
            lambda client: _TAKE_OVER.execute_on_run(
                client, lambda run: [_key(run, epoch, image_id)], value, lease, LEASE_SECONDS * 1000
            ),
            seconds=LOOK_SECONDS,
        )
        return Turn.FETCH if taken else Turn.WAIT

    async def fill(self, image_id: UUID, epoch: int, token: bytes, view: ImageView | None) -> bool:
        """Put a value in the place of the lease; false when that is gone, or the value too old."""
        life = self._seconds if view else min(MISSING_SECONDS, self._seconds)
        filled = await self._guard.call(
            lambda client: _FILL.execute_on_run(
                client,
                lambda run: _keys(run, epoch, image_id),
                LEASE + token,
                view.version if view else 0,
                encode(view),
                life * 1000,
            ),
            seconds=LOOK_SECONDS,
        )
        return bool(filled)

    async def invalidate(self, image_id: UUID, epoch: int, oldest: int) -> None:
        """Remove value and lease, refuse older fills for a while, and tell every process."""
        await self._guard.call(
            lambda client: _INVALIDATE.execute_on_run(
                client,
                lambda run: _keys(run, epoch, image_id),
                oldest,
                TOMBSTONE_SECONDS,
                MISSING if oldest == GONE else b"",
                CHANNEL,
                str(image_id),
            ),
            seconds=INVALIDATE_SECONDS,
        )


def _key(run: str, epoch: int, image_id: UUID) -> str:
    """The braces keep the keys of one image together where Valkey is a cluster."""
    return f"chitram:metadata:{run}:{epoch}:{{{image_id}}}"


def _keys(run: str, epoch: int, image_id: UUID) -> list[str]:
    key = _key(run, epoch, image_id)
    return [key, f"{key}:oldest"]

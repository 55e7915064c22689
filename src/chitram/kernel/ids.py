"""Identifiers: UUID version 7, sortable by time and impossible to guess."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from uuid import UUID

_RANDOM_BITS = 74
_BITS_BELOW_TIME = 80
_LAST_MILLISECOND = (1 << 48) - 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def new_id(now: datetime) -> UUID:
    """Make a UUIDv7 (RFC 9562, section 5.7) for the moment `now`.

    All 74 random bits come from `secrets`: ids guard unlisted images, so there is no counter and
    no fraction of a millisecond in them, either of which would help to guess a neighbour.
    """
    milliseconds = int(now.timestamp() * 1000)
    random = secrets.randbits(_RANDOM_BITS)
    value = milliseconds << 80
    value |= 0x7 << 76
    value |= (random >> 62) << 64
    value |= 0b10 << 62
    value |= random & ((1 << 62) - 1)
    return UUID(int=value)


def id_time(value: UUID) -> datetime:
    """Return the moment, to the millisecond, at which a UUIDv7 was made."""
    return datetime.fromtimestamp((value.int >> 80) / 1000, UTC)


def ids_between(after: datetime | None, before: datetime | None) -> tuple[UUID, UUID]:
    """The lowest and the highest id that may have been made from `after` to `before`, and few others.

    Wider by a millisecond at both ends, for an id rounds its moment by way of a float.
    """
    lowest = _millisecond(after, -1) if after else 0
    highest = _millisecond(before, 1) if before else _LAST_MILLISECOND
    return UUID(int=lowest << _BITS_BELOW_TIME), UUID(int=((highest + 1) << _BITS_BELOW_TIME) - 1)


def _millisecond(moment: datetime, more: int) -> int:
    milliseconds = (moment - _EPOCH) // timedelta(milliseconds=1) + more
    return min(max(milliseconds, 0), _LAST_MILLISECOND)

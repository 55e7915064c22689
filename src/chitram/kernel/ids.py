"""Identifiers: UUID version 7, sortable by time and impossible to guess."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from uuid import UUID

_RANDOM_BITS = 74


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

"""What the outbox owes to one subject, for administrators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from chitram.platform.database import Reader

_NAMING = """
SELECT id, kind, payload, run_after, attempts, last_error, dead_at FROM outbox
WHERE payload @> $1::jsonb ORDER BY id
"""


class Owed(msgspec.Struct, frozen=True, kw_only=True):
    """An undone entry, given up when `dead_at` is set."""

    id: UUID
    kind: str
    payload: Mapping[str, str]
    run_after: datetime
    attempts: int
    last_error: str | None
    dead_at: datetime | None


async def owed_to(reader: Reader, payload: Mapping[str, str]) -> Sequence[Owed]:
    """Undone entries whose payload holds all of `payload`, the oldest first."""
    async with reader.connection() as connection:
        rows = await connection.fetch(_NAMING, msgspec.json.encode(payload).decode())
    return [Owed(**(dict(row) | {"payload": msgspec.json.decode(row["payload"])})) for row in rows]

"""When API keys were last used, to the minute, written beside the requests."""

from __future__ import annotations

from collections import OrderedDict
from datetime import datetime
from uuid import UUID

from chitram.platform.database import Reader

# Keys in use at a time, of which it is remembered that their minute has been noted.
_MOST_KEYS = 10_000
_WRITE = """
UPDATE api_keys k SET last_used_at = GREATEST(u.at, k.created_at)
FROM unnest($1::uuid[], $2::timestamptz[]) AS u(id, at)
WHERE k.id = u.id AND (k.last_used_at IS NULL OR date_trunc('minute', k.last_used_at) < u.at)
"""


class PostgresKeyUses:
    """`KeyUses` of one process: notes them, and writes them when `flush` is called.

    A key's row is written by the first process that tells of a minute, so once a minute at most.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        # The last minute of each key; the one noted last stands last.
        self._minutes: OrderedDict[UUID, datetime] = OrderedDict()
        self._unwritten: dict[UUID, datetime] = {}

    def note(self, key_id: UUID, now: datetime) -> None:
        minute = now.replace(second=0, microsecond=0)
        if self._minutes.get(key_id) == minute:
            return
        self._minutes[key_id] = minute
        self._minutes.move_to_end(key_id)
        if len(self._minutes) > _MOST_KEYS:
            self._minutes.popitem(last=False)
        if key_id in self._unwritten or len(self._unwritten) < _MOST_KEYS:
            self._unwritten[key_id] = minute

    async def flush(self) -> None:
        """Write what was noted; what cannot be written is kept. Raises `DatabaseUnavailable`."""
        if not self._unwritten:
            return
        noted, self._unwritten = self._unwritten, {}
        try:
            async with self._reader.connection() as connection:
                await connection.execute(_WRITE, list(noted), list(noted.values()))
        except BaseException:
            self._unwritten = {**noted, **self._unwritten}
            raise

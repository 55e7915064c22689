"""Sessions are remembered nowhere."""

from __future__ import annotations

from uuid import UUID


class NoSessionCache:
    """For as long as every request asks the database."""

    async def forget(self, session_id: UUID) -> None: ...

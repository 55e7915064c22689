"""Reads of accounts, one statement each."""

from __future__ import annotations

from uuid import UUID

from chitram.accounts.queries import SessionView
from chitram.platform.database import Reader

_SESSION = """
SELECT s.id, s.user_id, u.is_active, u.is_admin, s.expires_at, s.revoked_at IS NOT NULL AS revoked
FROM sessions s JOIN users u ON u.id = s.user_id
WHERE s.id = $1
"""


class PostgresSessionQueries:
    """Asks the primary, each time."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def find(self, session_id: UUID) -> SessionView | None:
        async with self._reader.connection() as connection:
            row = await connection.fetchrow(_SESSION, session_id)
        if row is None:
            return None
        return SessionView(
            session_id=row["id"],
            user_id=row["user_id"],
            is_active=row["is_active"],
            is_admin=row["is_admin"],
            expires_at=row["expires_at"],
            revoked=row["revoked"],
        )

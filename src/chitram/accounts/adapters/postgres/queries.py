"""Reads of accounts, one statement each."""

from __future__ import annotations

from uuid import UUID

from chitram.accounts.queries import AccountView, SessionView
from chitram.platform.database import Reader

_SESSION = """
SELECT s.id, s.user_id, u.is_active, u.is_admin, s.expires_at, s.revoked_at IS NOT NULL AS revoked
FROM sessions s JOIN users u ON u.id = s.user_id
WHERE s.id = $1
"""
# A quota of zero is none.
_ACCOUNT = """
SELECT id, email, is_active, is_admin, created_at, used_bytes, used_images,
       nullif(coalesce(quota_bytes, $2), 0) AS quota_bytes,
       nullif(coalesce(quota_images, $3), 0) AS quota_images
FROM users WHERE id = $1
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


class PostgresAccountQueries:
    """Asks the primary, each time.

    Args:
        reader: single statements.
        quota_bytes: of accounts without a quota of their own; 0 is without a limit.
        quota_images: likewise.
    """

    def __init__(self, reader: Reader, quota_bytes: int, quota_images: int) -> None:
        self._reader = reader
        self._quotas = (quota_bytes, quota_images)

    async def find(self, user_id: UUID) -> AccountView | None:
        async with self._reader.connection() as connection:
            row = await connection.fetchrow(_ACCOUNT, user_id, *self._quotas)
        return AccountView(**row) if row else None

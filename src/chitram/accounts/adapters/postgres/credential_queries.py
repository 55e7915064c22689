"""Reads of API keys, and of all that proves to be an account."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from chitram.accounts.domain.principal import Scope
from chitram.accounts.queries import ApiKeyView, ListedApiKey
from chitram.platform.database import Reader

_API_KEY = """
SELECT k.id, k.user_id, u.is_active, u.is_admin, k.scopes, k.expires_at
FROM api_keys k JOIN users u ON u.id = k.user_id
WHERE k.key_hash = $1
"""
_SESSIONS_OF = "SELECT id FROM sessions WHERE user_id = $1 AND expires_at > now() LIMIT $2"
_KEYS_OF = "SELECT key_hash FROM api_keys WHERE user_id = $1 LIMIT $2"
_LIST = """
SELECT id, name, hint, scopes, created_at, expires_at, last_used_at FROM api_keys
WHERE user_id = $1 AND ($2::uuid IS NULL OR id < $2)
ORDER BY id DESC LIMIT $3
"""
_SCOPES = frozenset(Scope)


class PostgresApiKeyQueries:
    """Asks the primary, each time."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def find(self, key_hash: bytes) -> ApiKeyView | None:
        async with self._reader.connection() as connection:
            row = await connection.fetchrow(_API_KEY, key_hash)
        if row is None:
            return None
        return ApiKeyView(
            key_id=row["id"],
            user_id=row["user_id"],
            is_active=row["is_active"],
            is_admin=row["is_admin"],
            scopes=_scopes(row["scopes"]),
            expires_at=row["expires_at"],
        )


class PostgresApiKeyLists:
    """Asks the primary, each time."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def newest(self, user_id: UUID, before: UUID | None, limit: int) -> list[ListedApiKey]:
        async with self._reader.connection() as connection:
            rows = await connection.fetch(_LIST, user_id, before, limit)
        return [ListedApiKey(**{**row, "scopes": _scopes(row["scopes"])}) for row in rows]


class PostgresCredentialQueries:
    """Asks the primary, each time."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def of_account(self, user_id: UUID, limit: int) -> tuple[list[UUID], list[bytes]]:
        async with self._reader.connection() as connection:
            sessions = await connection.fetch(_SESSIONS_OF, user_id, limit)
            keys = await connection.fetch(_KEYS_OF, user_id, limit)
        return [row["id"] for row in sessions], [row["key_hash"] for row in keys]


def _scopes(names: Iterable[str]) -> frozenset[Scope]:
    """Those that this release knows: a later one may know more, and run beside it."""
    return frozenset(Scope(name) for name in names if name in _SCOPES)

"""API keys inside one PostgreSQL transaction."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from chitram.accounts.adapters.postgres.rows import ApiKeyRow
from chitram.accounts.domain.api_key import ApiKey


class PostgresApiKeys:
    """API keys inside one transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def add(self, key: ApiKey) -> None:
        self._session.add(
            ApiKeyRow(
                id=key.id,
                user_id=key.user_id,
                name=key.name,
                key_hash=key.key_hash,
                hint=key.hint,
                scopes=sorted(key.scopes),
                created_at=key.created_at,
                expires_at=key.expires_at,
            )
        )
        await self._session.flush()

    async def count(self, user_id: UUID) -> int:
        counted = select(func.count()).where(ApiKeyRow.user_id == user_id)
        return await self._session.scalar(counted) or 0

    async def remove(self, user_id: UUID, key_id: UUID) -> bytes | None:
        removed: bytes | None = await self._session.scalar(
            delete(ApiKeyRow)
            .where(ApiKeyRow.id == key_id, ApiKeyRow.user_id == user_id)
            .returning(ApiKeyRow.key_hash)
        )
        return removed

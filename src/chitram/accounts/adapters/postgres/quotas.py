"""What images take up, counted in the account's row."""

from __future__ import annotations

from uuid import UUID

import structlog
from sqlalchemy import and_, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.sql import ColumnElement

from chitram.accounts.adapters.postgres.rows import UserRow
from chitram.accounts.domain.errors import InvalidToken, QuotaExceeded
from chitram.kernel.uow import UnitOfWork
from chitram.platform.database import session_of

_log = structlog.get_logger("chitram.accounts")


class PostgresQuotas:
    """Charges in one statement, which locks the row: the sum is never exceeded by anyone.

    It refuses under the lock, so that nobody is while there is room.

    Args:
        quota_bytes: for accounts without a quota of their own; 0 is without a limit.
        quota_images: likewise.
    """

    def __init__(self, quota_bytes: int, quota_images: int) -> None:
        self._quota_bytes = func.coalesce(UserRow.quota_bytes, quota_bytes)
        self._quota_images = func.coalesce(UserRow.quota_images, quota_images)

    async def charge(self, transaction: UnitOfWork, user_id: UUID, byte_size: int) -> None:
        session = session_of(transaction)
        if await self._add(session, user_id, byte_size):
            return
        # Room may have been made since that statement began, but is not while the row is locked.
        refusal = await self._refusal(session, user_id)
        if not await self._add(session, user_id, byte_size):
            raise refusal

    async def _add(self, session: AsyncSession, user_id: UUID, byte_size: int) -> bool:
        charged = await session.scalar(
            update(UserRow)
            .where(
                UserRow.id == user_id,
                _has_room(self._quota_bytes, UserRow.used_bytes, byte_size),
                _has_room(self._quota_images, UserRow.used_images, 1),
            )
            .values(used_bytes=UserRow.used_bytes + byte_size, used_images=UserRow.used_images + 1)
            .returning(UserRow.id)
            .execution_options(synchronize_session=False)
        )
        return charged is not None

    async def release(self, transaction: UnitOfWork, user_id: UUID, byte_size: int) -> None:
        session = session_of(transaction)
        counted = and_(UserRow.used_bytes >= byte_size, UserRow.used_images >= 1)
        if await self._take(session, user_id, byte_size, counted):
            return
        _log.error("less is counted than is released", user_id=str(user_id), byte_size=byte_size)
        await self._take(session, user_id, byte_size, UserRow.id == user_id)

    async def _take(
        self, session: AsyncSession, user_id: UUID, byte_size: int, condition: ColumnElement[bool]
    ) -> bool:
        taken = await session.scalar(
            update(UserRow)
            .where(UserRow.id == user_id, condition)
            .values(
                used_bytes=func.greatest(UserRow.used_bytes - byte_size, 0),
                used_images=func.greatest(UserRow.used_images - 1, 0),
            )
            .returning(UserRow.id)
            .execution_options(synchronize_session=False)
        )
        return taken is not None

    async def _refusal(self, session: AsyncSession, user_id: UUID) -> Exception:
        """Lock the account's row, and say what is used of what."""
        columns = (self._quota_bytes, UserRow.used_bytes, self._quota_images, UserRow.used_images)
        row = (
            await session.execute(select(*columns).where(UserRow.id == user_id).with_for_update())
        ).one_or_none()
        if row is None:
            return InvalidToken()
        quota_bytes, used_bytes, quota_images, used_images = row
        return QuotaExceeded(
            details={
                "quota_bytes": quota_bytes or None,
                "used_bytes": used_bytes,
                "quota_images": quota_images or None,
                "used_images": used_images,
            }
        )


def _has_room(quota: ColumnElement[int], used: InstrumentedAttribute[int], more: int) -> ColumnElement[bool]:
    return or_(quota == 0, used + more <= quota)

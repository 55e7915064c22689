"""Sessions and refresh tokens inside one PostgreSQL transaction."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import delete, exists, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from chitram.accounts.adapters.postgres.rows import RefreshTokenRow, SessionRow, row_of_session, session_from
from chitram.accounts.domain.session import Session


class PostgresSessions:
    """Sessions inside one transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def add(self, session: Session) -> None:
        self._session.add(row_of_session(session))
        await self._session.flush()

    async def get(self, session_id: UUID) -> Session | None:
        row = await self._session.get(SessionRow, session_id, populate_existing=True)
        return session_from(row) if row is not None else None

    async def add_token(self, session_id: UUID, token_hash: bytes, now: datetime) -> None:
        self._session.add(RefreshTokenRow(token_hash=token_hash, session_id=session_id, created_at=now))
        await self._session.flush()

    async def lock_by_token(self, token_hash: bytes) -> tuple[Session, datetime | None] | None:
        found = (
            await self._session.execute(
                select(SessionRow, RefreshTokenRow.used_at)
                .join(RefreshTokenRow, RefreshTokenRow.session_id == SessionRow.id)
                .where(RefreshTokenRow.token_hash == token_hash)
                # Both: of what was waited for, PostgreSQL shows the newest version of locked rows alone.
                .with_for_update()
                .execution_options(populate_existing=True)
            )
        ).one_or_none()
        return (session_from(found[0]), found[1]) if found else None

    async def use_token(self, token_hash: bytes, now: datetime) -> None:
        await self._session.execute(
            update(RefreshTokenRow).where(RefreshTokenRow.token_hash == token_hash).values(used_at=now)
        )

    async def prolong(self, session_id: UUID, now: datetime, expires_at: datetime) -> None:
        await self._session.execute(
            update(SessionRow)
            .where(SessionRow.id == session_id)
            .values(last_used_at=now, expires_at=expires_at)
        )

    async def revoke(self, session_id: UUID, now: datetime) -> bool:
        revoked = await self._session.scalar(
            update(SessionRow)
            .where(SessionRow.id == session_id, SessionRow.revoked_at.is_(None))
            .values(revoked_at=now)
            .returning(SessionRow.id)
        )
        return revoked is not None

    async def revoke_but_newest(self, user_id: UUID, kept: int, now: datetime) -> Sequence[UUID]:
        is_open = (
            SessionRow.user_id == user_id,
            SessionRow.revoked_at.is_(None),
            SessionRow.expires_at > now,
        )
        superfluous = (
            select(SessionRow.id)
            .where(*is_open)
            .order_by(SessionRow.last_used_at.desc(), SessionRow.id.desc())
            .offset(kept)
        )
        revoked = await self._session.scalars(
            update(SessionRow)
            .where(SessionRow.id.in_(superfluous), SessionRow.revoked_at.is_(None))
            .values(revoked_at=now)
            .returning(SessionRow.id)
            .execution_options(synchronize_session=False)
        )
        return list(revoked)

    async def clear(self, *, over: datetime, used: datetime, limit: int) -> int:
        is_over = or_(SessionRow.expires_at < over, SessionRow.revoked_at < over)
        is_of_session = RefreshTokenRow.session_id == SessionRow.id
        token_hash = RefreshTokenRow.token_hash
        used_up = select(token_hash).where(RefreshTokenRow.used_at < used).limit(limit)
        left_over = select(token_hash).join(SessionRow, is_of_session).where(is_over).limit(limit)
        # With the last of its tokens: one may have so many that removing them at once takes too long.
        empty = (
            select(SessionRow.id)
            .where(is_over, ~exists().where(is_of_session))
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        removed = 0
        for statement in (
            delete(RefreshTokenRow).where(token_hash.in_(used_up)).returning(RefreshTokenRow.session_id),
            delete(RefreshTokenRow).where(token_hash.in_(left_over)).returning(RefreshTokenRow.session_id),
            delete(SessionRow).where(SessionRow.id.in_(empty)).returning(SessionRow.id),
        ):
            rows = await self._session.scalars(statement.execution_options(synchronize_session=False))
            removed += len(rows.all())
        return removed

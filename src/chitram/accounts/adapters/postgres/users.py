"""Accounts inside one PostgreSQL transaction."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import Text, exists, literal, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from chitram.accounts.adapters.postgres.rows import SessionRow, UserRow, row_of_user, user_from
from chitram.accounts.domain.errors import EmailTaken
from chitram.accounts.domain.user import Email, User
from chitram.platform.database import violated_constraint


class PostgresUsers:
    """Accounts inside one transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def add(self, user: User) -> None:
        self._session.add(row_of_user(user))
        try:
            await self._session.flush()
        except IntegrityError as error:
            if violated_constraint(error) == "uq_users_email_key":
                raise EmailTaken from error
            raise

    async def find(self, email: Email, origin: str | None = None) -> tuple[User, bool] | None:
        # One statement, so that it takes the same whether or not there is such an account.
        familiar = exists().where(
            SessionRow.user_id == UserRow.id, SessionRow.origin == literal(origin, Text)
        )
        statement = select(UserRow, familiar).where(UserRow.email_key == email.key)
        found = (await self._session.execute(statement)).one_or_none()
        return (user_from(found[0]), found[1]) if found else None

    async def get(self, user_id: UUID) -> User | None:
        row = await self._session.get(UserRow, user_id)
        return user_from(row) if row is not None else None

    async def lock(self, user_id: UUID) -> User | None:
        # No key of the row changes, so rows that refer to it may still be added meanwhile.
        row = await self._session.get(
            UserRow, user_id, with_for_update={"key_share": True}, populate_existing=True
        )
        return user_from(row) if row is not None else None

    async def change(self, user: User) -> None:
        await self._session.execute(
            update(UserRow)
            .where(UserRow.id == user.id)
            .values(
                password_hash=user.password_hash,
                is_active=user.is_active,
                is_admin=user.is_admin,
                quota_bytes=user.quota_bytes,
                quota_images=user.quota_images,
                updated_at=user.updated_at,
            )
            .execution_options(synchronize_session=False)
        )

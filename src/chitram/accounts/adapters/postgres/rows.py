"""The tables of accounts."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from advanced_alchemy.base import DefaultBase
from sqlalchemy import BigInteger, Boolean, ForeignKey, Index, Text, UniqueConstraint, false, func, text, true
from sqlalchemy.dialects.postgresql import ARRAY, BYTEA, JSONB, TIMESTAMP
from sqlalchemy.dialects.postgresql import UUID as PG_UUID
from sqlalchemy.orm import Mapped, mapped_column

from chitram.accounts.domain.session import Session
from chitram.accounts.domain.user import Email, User

_UUID = PG_UUID(as_uuid=True)
_TIME = TIMESTAMP(timezone=True)


class UserRow(DefaultBase):
    """A person or program with an account; deactivated, never removed."""

    __tablename__ = "users"

    id: Mapped[UUID] = mapped_column(_UUID, primary_key=True)
    email: Mapped[str] = mapped_column(Text)
    email_key: Mapped[str] = mapped_column(Text)
    password_hash: Mapped[str] = mapped_column(Text)
    is_active: Mapped[bool] = mapped_column(Boolean, server_default=true())
    is_admin: Mapped[bool] = mapped_column(Boolean, server_default=false())
    quota_bytes: Mapped[int | None] = mapped_column(BigInteger)
    quota_images: Mapped[int | None] = mapped_column(BigInteger)
    used_bytes: Mapped[int] = mapped_column(BigInteger, server_default="0")
    used_images: Mapped[int] = mapped_column(BigInteger, server_default="0")
    created_at: Mapped[datetime] = mapped_column(_TIME)
    updated_at: Mapped[datetime] = mapped_column(_TIME)

    __table_args__ = (UniqueConstraint("email_key", name="uq_users_email_key"),)


class SessionRow(DefaultBase):
    """One sign-in, and all that it was renewed by."""

    __tablename__ = "sessions"

    id: Mapped[UUID] = mapped_column(_UUID, primary_key=True)
    user_id: Mapped[UUID] = mapped_column(
        _UUID, ForeignKey("users.id", name="fk_sessions_user_id_users", ondelete="CASCADE")
    )
    created_at: Mapped[datetime] = mapped_column(_TIME)
    last_used_at: Mapped[datetime] = mapped_column(_TIME)
    expires_at: Mapped[datetime] = mapped_column(_TIME)
    revoked_at: Mapped[datetime | None] = mapped_column(_TIME)
    origin: Mapped[str | None] = mapped_column(Text)

    __table_args__ = (
        Index("ix_sessions_user_id", "user_id"),
        Index("ix_sessions_expires_at", "expires_at"),
        Index("ix_sessions_revoked_at", "revoked_at", postgresql_where=text("revoked_at IS NOT NULL")),
    )


class RefreshTokenRow(DefaultBase):
    """A refresh token of a session; all but the last were used."""

    __tablename__ = "refresh_tokens"

    token_hash: Mapped[bytes] = mapped_column(BYTEA, primary_key=True)
    session_id: Mapped[UUID] = mapped_column(
        _UUID, ForeignKey("sessions.id", name="fk_refresh_tokens_session_id_sessions", ondelete="CASCADE")
    )
    created_at: Mapped[datetime] = mapped_column(_TIME)
    used_at: Mapped[datetime | None] = mapped_column(_TIME)

    __table_args__ = (
        Index("ix_refresh_tokens_session_id", "session_id"),
        Index("ix_refresh_tokens_used_at", "used_at", postgresql_where=text("used_at IS NOT NULL")),
    )


class ApiKeyRow(DefaultBase):
    """A key that a program uses in the name of an account."""

    __tablename__ = "api_keys"

    id: Mapped[UUID] = mapped_column(_UUID, primary_key=True)
    user_id: Mapped[UUID] = mapped_column(
        _UUID, ForeignKey("users.id", name="fk_api_keys_user_id_users", ondelete="CASCADE")
    )
    name: Mapped[str] = mapped_column(Text)
    key_hash: Mapped[bytes] = mapped_column(BYTEA)
    hint: Mapped[str] = mapped_column(Text)
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text))
    created_at: Mapped[datetime] = mapped_column(_TIME)
    expires_at: Mapped[datetime | None] = mapped_column(_TIME)
    last_used_at: Mapped[datetime | None] = mapped_column(_TIME)

    __table_args__ = (
        UniqueConstraint("key_hash", name="uq_api_keys_key_hash"),
        Index("ix_api_keys_user_id_id", "user_id", "id"),
    )


class AuditRow(DefaultBase):
    """Something that an administrator did."""

    __tablename__ = "audit_log"

    id: Mapped[UUID] = mapped_column(_UUID, primary_key=True)
    at: Mapped[datetime] = mapped_column(_TIME, server_default=func.now())
    actor_id: Mapped[UUID | None] = mapped_column(_UUID)
    action: Mapped[str] = mapped_column(Text)
    subject: Mapped[str] = mapped_column(Text)
    details: Mapped[dict[str, str | int | bool | None]] = mapped_column(JSONB, server_default=text("'{}'"))

    __table_args__ = (Index("ix_audit_log_subject_id", "subject", "id"),)


def user_from(row: UserRow) -> User:
    """The account that a row tells of."""
    return User(
        id=row.id,
        email=Email(row.email, row.email_key),
        password_hash=row.password_hash,
        is_active=row.is_active,
        is_admin=row.is_admin,
        quota_bytes=row.quota_bytes,
        quota_images=row.quota_images,
        used_bytes=row.used_bytes,
        used_images=row.used_images,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def row_of_user(user: User) -> UserRow:
    """The row that tells of an account."""
    return UserRow(
        id=user.id,
        email=user.email.address,
        email_key=user.email.key,
        password_hash=user.password_hash,
        is_active=user.is_active,
        is_admin=user.is_admin,
        quota_bytes=user.quota_bytes,
        quota_images=user.quota_images,
        used_bytes=user.used_bytes,
        used_images=user.used_images,
        created_at=user.created_at,
        updated_at=user.updated_at,
    )


def session_from(row: SessionRow) -> Session:
    """The session that a row tells of."""
    return Session(
        id=row.id,
        user_id=row.user_id,
        created_at=row.created_at,
        last_used_at=row.last_used_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        origin=row.origin,
    )


def row_of_session(session: Session) -> SessionRow:
    """The row that tells of a session."""
    return SessionRow(
        id=session.id,
        user_id=session.user_id,
        created_at=session.created_at,
        last_used_at=session.last_used_at,
        expires_at=session.expires_at,
        revoked_at=session.revoked_at,
        origin=session.origin,
    )

"""In-memory stand-ins for the ports of accounts, proved equal to the real ones by tests/contract."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Self
from uuid import UUID

from chitram.accounts.domain.api_key import ApiKey
from chitram.accounts.domain.errors import EmailTaken
from chitram.accounts.domain.session import Session
from chitram.accounts.domain.user import Email, User
from tests.support.fakes import FakeTransactions, FakeUnitOfWork, Tables


class FakeAccountTransactions(FakeTransactions):
    """Transactions over the tables of accounts in memory."""

    def begin(self) -> FakeAccountsUnitOfWork:
        self.begun += 1
        return FakeAccountsUnitOfWork(self)


class FakeAccountsUnitOfWork(FakeUnitOfWork):
    def __init__(self, database: FakeAccountTransactions) -> None:
        super().__init__(database)
        self.users = FakeUsers(self.tables)
        self.sessions = FakeSessions(self.tables)
        self.api_keys = FakeApiKeys(self.tables)

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        return self


class FakeUsers:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def add(self, user: User) -> None:
        if await self.find(user.email):
            raise EmailTaken
        self._tables.users[user.id] = user

    async def find(self, email: Email, origin: str | None = None) -> tuple[User, bool] | None:
        for user in self._tables.users.values():
            if user.email.key == email.key:
                origins = {
                    session.origin for session in self._tables.sessions.values() if session.user_id == user.id
                }
                return user, origin is not None and origin in origins
        return None

    async def get(self, user_id: UUID) -> User | None:
        return self._tables.users.get(user_id)

    async def lock(self, user_id: UUID) -> User | None:
        return self._tables.users.get(user_id)

    async def change(self, user: User) -> None:
        old = self._tables.users[user.id]
        self._tables.users[user.id] = replace(
            user,
            email=old.email,
            created_at=old.created_at,
            used_bytes=old.used_bytes,
            used_images=old.used_images,
        )


class FakeSessions:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def add(self, session: Session) -> None:
        self._tables.sessions[session.id] = session

    async def get(self, session_id: UUID) -> Session | None:
        return self._tables.sessions.get(session_id)

    async def add_token(self, session_id: UUID, token_hash: bytes, now: datetime) -> None:
        assert token_hash not in self._tables.refresh_tokens
        self._tables.refresh_tokens[token_hash] = (session_id, None)

    async def lock_by_token(self, token_hash: bytes) -> tuple[Session, datetime | None] | None:
        if token_hash not in self._tables.refresh_tokens:
            return None
        session_id, used_at = self._tables.refresh_tokens[token_hash]
        return self._tables.sessions[session_id], used_at

    async def use_token(self, token_hash: bytes, now: datetime) -> None:
        session_id, _ = self._tables.refresh_tokens[token_hash]
        self._tables.refresh_tokens[token_hash] = (session_id, now)

    async def prolong(self, session_id: UUID, now: datetime, expires_at: datetime) -> None:
        session = self._tables.sessions[session_id]
        self._tables.sessions[session_id] = replace(session, last_used_at=now, expires_at=expires_at)

    async def revoke(self, session_id: UUID, now: datetime) -> bool:
        session = self._tables.sessions.get(session_id)
        if session is None or session.revoked_at is not None:
            return False
        self._tables.sessions[session_id] = replace(session, revoked_at=now)
        return True

    async def revoke_but_newest(self, user_id: UUID, kept: int, now: datetime) -> Sequence[UUID]:
        is_open = [
            session
            for session in self._tables.sessions.values()
            if session.user_id == user_id and session.revoked_at is None and session.expires_at > now
        ]
        is_open.sort(key=lambda session: (session.last_used_at, session.id), reverse=True)
        revoked = [session.id for session in is_open[kept:]]
        for session_id in revoked:
            await self.revoke(session_id, now)
        return revoked

    async def clear(self, *, over: datetime, used: datetime, limit: int) -> int:
        tokens, sessions = self._tables.refresh_tokens, self._tables.sessions

        def is_over(session_id: UUID) -> bool:
            session = sessions[session_id]
            return session.expires_at < over or bool(session.revoked_at and session.revoked_at < over)

        old = [key for key, (_, used_at) in tokens.items() if used_at and used_at < used][:limit]
        for key in old:
            del tokens[key]
        left = [key for key, (owner, _) in tokens.items() if is_over(owner)][:limit]
        for key in left:
            del tokens[key]
        owners = {owner for owner, _ in tokens.values()}
        ended = [each for each in sessions if is_over(each) and each not in owners][:limit]
        for session_id in ended:
            del sessions[session_id]
        return len(old) + len(left) + len(ended)


class FakeApiKeys:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def add(self, key: ApiKey) -> None:
        self._tables.api_keys[key.id] = key

    async def count(self, user_id: UUID) -> int:
        return sum(key.user_id == user_id for key in self._tables.api_keys.values())

    async def remove(self, user_id: UUID, key_id: UUID) -> bytes | None:
        key = self._tables.api_keys.get(key_id)
        if key is None or key.user_id != user_id:
            return None
        del self._tables.api_keys[key_id]
        return key.key_hash


class FakeHasher:
    """Hashes that anyone reads. Remembers what was asked of it, as hash and password."""

    def __init__(self) -> None:
        self.version = 1
        self.hashed: list[str] = []
        self.verified: list[tuple[str | None, str]] = []

    async def hash(self, password: str) -> str:
        self.hashed.append(password)
        return f"{self.version}:{password}"

    async def verify(self, password_hash: str | None, password: str) -> bool:
        self.verified.append((password_hash, password))
        return password_hash is not None and password_hash.partition(":")[2] == password

    def is_outdated(self, password_hash: str) -> bool:
        return not password_hash.startswith(f"{self.version}:")


class FakeSessionCache:
    """Remembers what was forgotten."""

    def __init__(self) -> None:
        self.forgotten: list[UUID] = []
        self.accounts: list[UUID] = []

    async def forget(self, session_id: UUID) -> bool:
        self.forgotten.append(session_id)
        return True

    async def forget_key(self, key_hash: bytes) -> bool:
        raise AssertionError("nothing here has keys")

    async def forget_account(self, user_id: UUID) -> bool:
        self.accounts.append(user_id)
        return True


class FakeSignInLimit:
    """Lets everyone try, unless told to refuse; remembers who was counted."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.error: Exception | None = None

    async def take(self, email: Email) -> None:
        self.taken.append(email.key)
        if self.error:
            raise self.error

    def origin(self, client: str) -> str:
        return f"hash of {client}"

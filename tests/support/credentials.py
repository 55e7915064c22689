"""Accounts, sessions and API keys as rows, and the cache of several processes over them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg

from chitram.accounts.adapters.access_tokens import JwtAccessTokens
from chitram.accounts.adapters.postgres.credential_queries import (
    PostgresApiKeyQueries,
    PostgresCredentialQueries,
)
from chitram.accounts.adapters.postgres.queries import PostgresSessionQueries
from chitram.accounts.adapters.session_cache import (
    CachedApiKeys,
    CachedSessions,
    ForgettingCredentials,
    shared_api_keys,
    shared_sessions,
)
from chitram.accounts.domain.api_key import hash_of, hint_of, new_key
from chitram.accounts.domain.principal import Scope
from chitram.accounts.queries import SessionView
from chitram.kernel.clock import Clock, SystemClock
from chitram.kernel.ids import new_id
from chitram.platform.database import Reader
from chitram.platform.loops import beside, repeat
from chitram.platform.settings import Settings
from chitram.platform.shared_cache.epoch import (
    EPOCH_STATEMENTS,
    WATCH_SECONDS,
    KnownEpoch,
    PostgresEpochs,
    WatchedEpoch,
)
from chitram.platform.statements import Statements
from chitram.platform.valkey import make_valkey
from tests.support.caches import PatientGuard


class People:
    """Writes rows of accounts, sessions and keys, as other parts would."""

    def __init__(self, pool: asyncpg.Pool | asyncpg.Connection) -> None:
        self._pool = pool

    async def user(self, *, is_admin: bool = False) -> UUID:
        now = datetime.now(UTC)
        user_id = new_id(now)
        await self._pool.execute(
            "INSERT INTO users (id, email, email_key, password_hash, is_admin, created_at, updated_at) "
            "VALUES ($1, $2, $2, 'none', $3, $4, $4)",
            *(user_id, f"{user_id}@example.com", is_admin, now),
        )
        return user_id

    async def session(self, user_id: UUID, life: timedelta = timedelta(days=1)) -> UUID:
        now = datetime.now(UTC)
        session_id = new_id(now)
        await self._pool.execute(
            "INSERT INTO sessions (id, user_id, created_at, last_used_at, expires_at) "
            "VALUES ($1, $2, $3, $3, $4)",
            *(session_id, user_id, now, now + life),
        )
        return session_id

    async def key(self, user_id: UUID, *scopes: Scope, life: timedelta | None = None) -> str:
        now = datetime.now(UTC)
        key = new_key()
        await self._pool.execute(
            "INSERT INTO api_keys (id, user_id, name, key_hash, hint, scopes, created_at, expires_at) "
            "VALUES ($1, $2, 'a key', $3, $4, $5, $6, $7)",
            *(new_id(now), user_id, hash_of(key), hint_of(key), list(scopes), now, life and now + life),
        )
        return key

    async def revoke(self, session_id: UUID) -> None:
        await self._pool.execute("UPDATE sessions SET revoked_at = now() WHERE id = $1", session_id)

    async def renew(self, session_id: UUID, until: datetime) -> None:
        await self._pool.execute("UPDATE sessions SET expires_at = $2 WHERE id = $1", session_id, until)

    async def change(self, user_id: UUID, *, is_active: bool = True, is_admin: bool = False) -> None:
        await self._pool.execute(
            "UPDATE users SET is_active = $2, is_admin = $3 WHERE id = $1", user_id, is_active, is_admin
        )

    async def remove_key(self, key: str) -> None:
        await self._pool.execute("DELETE FROM api_keys WHERE key_hash = $1", hash_of(key))


class HeldSessions(PostgresSessionQueries):
    """Counts what is asked, and can keep those who ask waiting for what was read."""

    def __init__(self, reader: Reader) -> None:
        super().__init__(reader)
        self.asked = 0
        self.waiting = asyncio.Event()
        self._open = asyncio.Event()
        self._open.set()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        self._open.clear()
        self.waiting.clear()
        try:
            yield
        finally:
            self._open.set()

    async def find(self, session_id: UUID) -> SessionView | None:
        self.asked += 1
        found = await super().find(session_id)
        self.waiting.set()
        await self._open.wait()
        return found


class CredentialsProcess:
    """What one process has of the cache of sessions and keys."""

    def __init__(self, reader: Reader, statements: Statements, valkey_url: str) -> None:
        self.client = make_valkey(Settings(valkey_url=valkey_url))
        self.guard = PatientGuard(self.client, open_seconds=0.1)
        self.queries = HeldSessions(reader)
        self.epoch = WatchedEpoch(KnownEpoch(PostgresEpochs(statements)))
        sessions, keys = shared_sessions(self.guard), shared_api_keys(self.guard)
        self.sessions = CachedSessions(self.queries, sessions, self.epoch, SystemClock())
        self.keys = CachedApiKeys(PostgresApiKeyQueries(reader), keys, self.epoch)
        self.cache = ForgettingCredentials(PostgresCredentialQueries(reader), sessions, keys, self.epoch)

    async def lets_in(self, session_id: UUID) -> bool:
        session = await self.sessions.find(session_id)
        return session is not None and session.is_active and not session.revoked

    @classmethod
    @contextlib.asynccontextmanager
    async def running(
        cls, reader: Reader, database_url: str, valkey_url: str
    ) -> AsyncIterator[CredentialsProcess]:
        statements = Statements(Settings(database_url=database_url), EPOCH_STATEMENTS, size=1)
        process = cls(reader, statements, valkey_url)
        # As a process that has run for a while: what it waits for in its first second is another matter.
        await process.epoch.read()
        process.epoch._learned_at = float("-inf")
        async with beside(repeat(WATCH_SECONDS, "cache epoch", process.epoch.read)):
            yield process
        await process.client.aclose()
        await statements.aclose()


SECRET_KEYS = ("the-key-that-signs-in-these-tests-now",)


def tokens(
    keys: tuple[str, ...] = SECRET_KEYS, life: timedelta = timedelta(minutes=15), clock: Clock | None = None
) -> JwtAccessTokens:
    return JwtAccessTokens(keys, life, clock or SystemClock())


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


@dataclass(frozen=True)
class SignedIn:
    """Somebody with an account and an open session."""

    user_id: UUID
    session_id: UUID

    @property
    def token(self) -> str:
        return tokens().issue(self.user_id, self.session_id)[0]

    @property
    def headers(self) -> dict[str, str]:
        return bearer(self.token)

    @classmethod
    async def new(cls, people: People, *, is_admin: bool = False) -> SignedIn:
        user_id = await people.user(is_admin=is_admin)
        return cls(user_id, await people.session(user_id))

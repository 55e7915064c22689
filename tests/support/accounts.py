"""People with accounts, signed in to an API that runs, by the rows and tokens that it makes itself."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import asyncpg

from chitram.accounts.adapters.access_tokens import JwtAccessTokens
from chitram.accounts.domain.principal import Scope
from tests.support.api import SECRET_KEY
from tests.support.credentials import People
from tests.support.fakes import FakeClock

_LIFE = timedelta(minutes=15)

Headers = dict[str, str]


@dataclass(frozen=True)
class Account:
    """Somebody, and the header fields of what they ask."""

    id: UUID
    session_id: UUID
    headers: Headers


class Accounts:
    """Makes accounts in the database of an API."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self.connection = connection
        self.people = People(connection)

    @classmethod
    @contextlib.asynccontextmanager
    async def of(cls, database_url: str) -> AsyncIterator[Accounts]:
        connection = await asyncpg.connect(database_url)
        try:
            yield cls(connection)
        finally:
            await connection.close()

    async def somebody(
        self, *, is_admin: bool = False, quota_bytes: int | None = None, quota_images: int | None = None
    ) -> Account:
        """A new account with an access token."""
        user_id = await self.people.user(is_admin=is_admin)
        await self.connection.execute(
            "UPDATE users SET quota_bytes = $2, quota_images = $3 WHERE id = $1",
            *(user_id, quota_bytes, quota_images),
        )
        session_id = await self.people.session(user_id)
        return Account(user_id, session_id, bearer(user_id, session_id))

    async def another_session(self, account: Account) -> Account:
        """The same person, signed in once more."""
        session_id = await self.people.session(account.id)
        return Account(account.id, session_id, bearer(account.id, session_id))

    async def key(self, account: Account, *scopes: Scope, life: timedelta | None = None) -> Headers:
        """Header fields that bring a new API key."""
        return {"x-api-key": await self.people.key(account.id, *scopes, life=life)}

    async def used(self, account: Account) -> tuple[int, int]:
        """Images and bytes that are counted for an account."""
        row = await self.connection.fetchrow(
            "SELECT used_images, used_bytes FROM users WHERE id = $1", account.id
        )
        return row["used_images"], row["used_bytes"]

    async def kept(self, account: Account) -> tuple[int, int]:
        """Images and bytes that an account has."""
        row = await self.connection.fetchrow(
            "SELECT count(*) AS images, coalesce(sum(b.byte_size), 0)::bigint AS bytes"
            " FROM images i JOIN blobs b ON b.id = i.blob_id WHERE i.owner_id = $1",
            account.id,
        )
        return row["images"], row["bytes"]

    async def audited(self, subject: str) -> list[tuple[UUID, str]]:
        """Who did what to a subject, in order."""
        rows = await self.connection.fetch(
            "SELECT actor_id, action FROM audit_log WHERE subject = $1 ORDER BY at", subject
        )
        return [(row["actor_id"], row["action"]) for row in rows]


def bearer(user_id: UUID, session_id: UUID, *, life: timedelta = _LIFE, key: str = SECRET_KEY) -> Headers:
    """Header fields that bring an access token; one with a life that is over has expired."""
    clock = FakeClock()
    if life < timedelta(0):
        # Made so long ago that even a clock of another server has it expired.
        clock.time += life
        life = timedelta(seconds=1)
    return {"authorization": f"Bearer {JwtAccessTokens((key,), life, clock).issue(user_id, session_id)[0]}"}

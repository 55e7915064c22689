"""Accounts, sessions and API keys in one PostgreSQL transaction."""

from __future__ import annotations

from typing import Self

from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from chitram.accounts.adapters.postgres.api_keys import PostgresApiKeys
from chitram.accounts.adapters.postgres.sessions import PostgresSessions
from chitram.accounts.adapters.postgres.users import PostgresUsers
from chitram.platform.database import SqlUnitOfWork
from chitram.platform.outbox import Relay


class PostgresAccountsUnitOfWork(SqlUnitOfWork):
    """One transaction over the tables of accounts."""

    users: PostgresUsers
    sessions: PostgresSessions
    api_keys: PostgresApiKeys

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self.users = PostgresUsers(self.session)
        self.sessions = PostgresSessions(self.session)
        self.api_keys = PostgresApiKeys(self.session)
        return self


class PostgresAccountTransactions:
    """Begins transactions on the primary."""

    def __init__(self, sessions: async_sessionmaker[AsyncSession], relay: Relay) -> None:
        self._sessions = sessions
        self._relay = relay

    def begin(self) -> PostgresAccountsUnitOfWork:
        return PostgresAccountsUnitOfWork(self._sessions, self._relay)

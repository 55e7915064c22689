"""A crowded database whose server tells how it has executed what it was asked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import pytest

from chitram.accounts.adapters.postgres.unit_of_work import PostgresAccountTransactions
from chitram.platform.embedded.postgres import Postgres
from tests.support.crowd import SMALL, Crowd, crowd
from tests.support.plans import Explained, Plan, explain_to_clients, open_explained
from tests.support.servers import drop_database, new_database


@dataclass(frozen=True)
class Asked:
    """A crowded database to ask, and what is there."""

    database: Explained
    there: Crowd

    @property
    def accounts(self) -> PostgresAccountTransactions:
        return PostgresAccountTransactions(self.database.sessions, self.database.relay)


# Asks what is to be looked at; a transaction that it begins is not committed.
Ask = Callable[[Asked], Awaitable[object]]


@pytest.fixture(scope="session")
async def crowded(migrated_url: str, postgres_server: Postgres) -> AsyncIterator[tuple[str, Crowd]]:
    url = await new_database(postgres_server.url, template=migrated_url)
    yield url, await crowd(url)
    await drop_database(url)


@pytest.fixture(scope="session", params=[False, True], ids=["planned-for-the-values", "planned-once"])
async def asked(
    request: pytest.FixtureRequest, crowded: tuple[str, Crowd], postgres_server: Postgres
) -> AsyncIterator[Asked]:
    url, there = crowded
    await explain_to_clients(postgres_server.superuser_url, url, generic=request.param)
    database = await open_explained(url)
    yield Asked(database, there)
    await database.aclose()


async def plans_of(asked: Asked, ask: Ask) -> list[Plan]:
    """How the server did what it was asked, as far as that read tables that grow."""
    asked.database.plans.seen.clear()
    await ask(asked)
    return [plan for plan in asked.database.plans.seen if _grows(plan)]


def _grows(plan: Plan) -> bool:
    grows = (not scan.relation.startswith("pg_") and scan.relation not in SMALL for scan in plan.scans())
    return bool(plan.arbiters()) or any(grows)

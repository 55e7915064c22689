"""Fixtures of the whole suite."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from xdist.remote import Producer

from chitram.platform.migrations import upgrade
from tests.support.database import Database, NewUrl
from tests.support.distribution import LoadRunsScheduling
from tests.support.seaweed import seaweed
from tests.support.servers import drop_database, new_database, postgres_server, postgres_url, valkey_url

__all__ = ["postgres_server", "postgres_url", "seaweed", "valkey_url"]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadRunsScheduling:
    """Where several processes run the tests, keep together in one what shares servers."""
    config.option.loadscopereorder = False
    return LoadRunsScheduling(config, log)


@pytest.fixture(scope="session")
async def migrated_url(postgres_url: str) -> AsyncIterator[str]:
    """A database that the migrations have built, to be copied."""
    url = await new_database(postgres_url)
    run_migrations(url)
    yield url
    await drop_database(url)


@pytest.fixture
async def new_url(postgres_url: str, migrated_url: str) -> AsyncIterator[NewUrl]:
    """Make migrated databases that are removed after the test."""
    made: list[str] = []

    async def make() -> str:
        made.append(await new_database(postgres_url, template=migrated_url))
        return made[-1]

    yield make
    for url in made:
        await drop_database(url)


@pytest.fixture
async def database(new_url: NewUrl) -> AsyncIterator[Database]:
    """Adapters over a migrated database of the test's own."""
    opened = await Database.open(await new_url())
    yield opened
    await opened.aclose()


def run_migrations(url: str, revision: str = "head") -> None:
    """Bring a database's schema to `revision`."""
    in_thread(upgrade, url, revision)


def in_thread(function: Callable[..., None], *arguments: str) -> None:
    """Call what runs an event loop of its own, as Alembic does, from inside another."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(function, *arguments).result()

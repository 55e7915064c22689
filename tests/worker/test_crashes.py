"""A few of the kills of tests/long/test_crash_matrix.py, which has them all."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.crash_cells import Cell, named
from tests.support.crash_site import CrashSite, crash_site
from tests.support.servers import drop_database, new_database

CELLS = named(
    "upload with a key: after COMMIT of an upload",
    "processing: rendition put, 2 of 3",
)


@pytest.fixture(scope="module")
async def site(postgres_url: str, migrated_url: str) -> AsyncIterator[CrashSite]:
    url = await new_database(postgres_url, template=migrated_url)
    async with crash_site(url) as running:
        yield running
    await drop_database(url)


@pytest.mark.parametrize("cell", CELLS, ids=[cell.id for cell in CELLS])
async def test_a_kill_at_this_step_breaks_no_promise(site: CrashSite, cell: Cell) -> None:
    await cell.run(site)

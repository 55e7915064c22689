"""Processes killed at every step of uploads, processing and deletions, and what comes of it.

Each line says what was done, at which step the process killed itself, whether all promises were kept,
and what was special: where reconcile had to remove an object that no row knows, it is an object put
or half put before its transaction, which the design leaves to reconcile and its grace time.
"""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator

import pytest

from tests.support.crash_cells import CELLS, Cell, named
from tests.support.crash_site import CrashSite, crash_site
from tests.support.seaweed import Seaweed, remove_bucket, url_of
from tests.support.servers import drop_database, new_database

OVER_S3 = named(
    "upload: object begun",
    "upload: object put",
    "upload: before COMMIT of an upload",
    "upload: answer to COMMIT lost",
    "upload with a key: after COMMIT of an upload",
    "processing: rendition put, 2 of 3",
    "processing: before COMMIT of a job",
    "delete: object deleted, the 2.",
    "delete, then upload of the same: object deleted",
)


@pytest.fixture(scope="module")
async def site(postgres_url: str, migrated_url: str) -> AsyncIterator[CrashSite]:
    url = await new_database(postgres_url, template=migrated_url)
    async with crash_site(url) as running:
        yield running
    await drop_database(url)


@pytest.fixture(scope="module")
async def site_over_s3(postgres_url: str, migrated_url: str, seaweed: Seaweed) -> AsyncIterator[CrashSite]:
    url = await new_database(postgres_url, template=migrated_url)
    bucket = seaweed.other_bucket("crash-matrix")
    async with crash_site(url, f"s3={url_of(bucket)}") as running:
        yield running
    remove_bucket(bucket)
    await drop_database(url)


@pytest.mark.long
@pytest.mark.parametrize("cell", CELLS, ids=[cell.id for cell in CELLS])
async def test_a_kill_at_this_step_breaks_no_promise(
    site: CrashSite, cell: Cell, capsys: pytest.CaptureFixture[str]
) -> None:
    await _run(site, cell, "local", capsys)


@pytest.mark.long
@pytest.mark.parametrize("cell", OVER_S3, ids=[cell.id for cell in OVER_S3])
async def test_a_kill_at_this_step_breaks_no_promise_over_s3(
    site_over_s3: CrashSite, cell: Cell, capsys: pytest.CaptureFixture[str]
) -> None:
    await _run(site_over_s3, cell, "s3", capsys)


async def _run(site: CrashSite, cell: Cell, store: str, capsys: pytest.CaptureFixture[str]) -> None:
    site.disarm()
    began = time.monotonic()
    note, result = "", "FAILED"
    try:
        note = await cell.run(site)
        result = "kept"
    finally:
        seconds = time.monotonic() - began
        with capsys.disabled():
            sys.stdout.write(
                f"\n{store:<6}{cell.group:<46}{cell.step:<42}{result:<7}{seconds:>5.1f} s  {note}"
            )

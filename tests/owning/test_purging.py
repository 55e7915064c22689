"""What is owed to caches of images that were changed, should whoever changed them have died."""

from __future__ import annotations

from uuid import uuid4

import pytest

from chitram.delivery.entrypoints.jobs import PurgeImageJob
from chitram.images.public import GONE, IMAGE_ID, PURGE_IMAGE, VERSION
from tests.support.database import Database, outbox_ids
from tests.support.fakes import FakeCaches


@pytest.mark.parametrize(("version", "oldest"), [({VERSION: "7"}, 7), ({}, GONE)], ids=["changed", "gone"])
async def test_copies_are_made_unreadable_up_to_the_version_of_the_change(
    database: Database, version: dict[str, str], oldest: int
) -> None:
    image_id, caches = uuid4(), FakeCaches()
    async with database.transactions.begin() as transaction:
        await transaction.outbox.add(PURGE_IMAGE, {IMAGE_ID: str(image_id), **version})
        await transaction.commit()
    [entry] = database.relay.entries
    await PurgeImageJob(caches, database.sessions, database.relay)(entry)
    assert caches.invalidated == [(image_id, oldest)]
    assert await outbox_ids(database.transactions) == set()

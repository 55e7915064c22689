"""Uploads and deletes of the same content, on a real database, all at once."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from uuid import UUID

import pytest

from chitram.accounts.public import ANONYMOUS
from chitram.images.domain.errors import ImageNotFound
from chitram.images.domain.work import BLOB_ID, DELETE_BLOB, MAKE_RENDITIONS
from chitram.images.use_cases.delete_blob import DeleteBlob, DeleteBlobCommand
from chitram.images.use_cases.delete_image import DeleteCommand, DeleteImage
from chitram.images.use_cases.upload_image import UploadCommand, UploadedImage, UploadImage, UploadRules
from tests.support.database import Database
from tests.support.fakes import (
    COPIES,
    FakeAuditLog,
    FakeBlobStore,
    FakeCaches,
    FakeClock,
    FakeInspector,
    FakeQuotas,
    FakeReceived,
)

RULES = UploadRules(delete_token_life=None, newest_commit=timedelta(minutes=30), copies=COPIES)


class House:
    def __init__(self, database: Database) -> None:
        self.database = database
        self.store = FakeBlobStore()
        self.clock = FakeClock()
        self.upload = UploadImage(
            database.transactions, self.store, FakeInspector(), FakeQuotas(), self.clock, RULES
        )
        self.delete = DeleteImage(
            database.transactions, FakeCaches(), FakeQuotas(), FakeAuditLog(), self.clock
        )
        self.delete_blob = DeleteBlob(database.transactions, self.store)

    async def take(self, content: bytes) -> UploadedImage:
        with FakeReceived(content) as received:
            return await self.upload(UploadCommand(received=received, principal=ANONYMOUS))

    async def take_away(self, uploaded: UploadedImage) -> None:
        await self.delete(DeleteCommand(uploaded.image.id, ANONYMOUS, uploaded.delete_token))

    async def work(self) -> None:
        """Do every delete that the outbox owes, each twice at once."""
        async with self.database.transactions.begin() as transaction:
            entries = await transaction.outbox.due([DELETE_BLOB], 1000)
        for entry in entries:
            command = DeleteBlobCommand(entry.id, UUID(entry.payload[BLOB_ID]))
            await asyncio.gather(self.delete_blob(command), self.delete_blob(command))


@pytest.fixture
def house(database: Database) -> House:
    return House(database)


async def shown(house: House) -> dict[UUID, int]:
    """By how many images each blob is shown."""
    counted = "SELECT blob_id, count(*) AS images FROM images GROUP BY blob_id"
    return {row["blob_id"]: row["images"] for row in await house.database.pool.fetch(counted)}


async def test_equal_uploads_at_once_share_one_blob_and_one_object(house: House) -> None:
    uploaded = await asyncio.gather(*(house.take(b"same") for _ in range(16)))
    assert len({one.image.id for one in uploaded}) == 16
    [blob_id] = {one.blob.id for one in uploaded}
    assert set(house.store.objects) == {blob_id}
    assert await shown(house) == {blob_id: 16}
    async with house.database.transactions.begin() as transaction:
        assert len(await transaction.outbox.due([MAKE_RENDITIONS], 100)) == 1


async def test_an_image_is_deleted_once_however_many_ask(house: House) -> None:
    uploaded = await house.take(b"one")
    answers = await asyncio.gather(*(house.take_away(uploaded) for _ in range(8)), return_exceptions=True)
    assert Counter(type(answer) for answer in answers) == {type(None): 1, ImageNotFound: 7}


async def test_racing_uploads_and_deletes_lose_no_live_bytes_and_leave_no_orphan(house: House) -> None:
    contents = [bytes([number]) * 10 for number in range(3)]

    async def come_and_go(content: bytes, *, stay: bool) -> UploadedImage | None:
        uploaded = await house.take(content)
        if stay:
            return uploaded
        await house.take_away(uploaded)
        return None

    staying: list[UploadedImage] = []
    for round_number in range(6):
        results = await asyncio.gather(
            *(
                come_and_go(content, stay=number % 5 == round_number)
                for number in range(8)
                for content in contents
            ),
            house.work(),
        )
        staying += [result for result in results if result]
    await house.work()
    live = {blob.id: blob async for blob in house.database.catalogue.live()}
    assert {one.blob.id for one in staying} == set(live)
    assert set(house.store.objects) == set(live)
    assert await shown(house) == Counter(one.blob.id for one in staying)
    async with house.database.transactions.begin() as transaction:
        assert await transaction.outbox.due([DELETE_BLOB], 10) == []

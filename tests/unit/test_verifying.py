from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from uuid import UUID

import pytest

from chitram.images.use_cases.upload_image import UploadedImage
from chitram.images.use_cases.verify_blob import VerifyBlob
from chitram.kernel.errors import StorageUnavailable
from tests.support.fakes import FakeBlobStore
from tests.unit.test_upload_image import House


class VerifyingHouse(House):
    def __init__(self) -> None:
        super().__init__()
        self.verify = VerifyBlob(self.database, self.store, self.clock)

    def marks(self, uploaded: UploadedImage) -> tuple[datetime, datetime | None] | None:
        """When the blob was verified, and since when it is known to be damaged."""
        return self.database.tables.verified.get(uploaded.blob.id)


async def test_intact_bytes_are_said_to_be_so_and_when() -> None:
    house = VerifyingHouse()
    uploaded = await house.take()
    verification = await house.verify(uploaded.blob)
    assert verification is not None
    assert verification.is_intact
    assert verification.found == uploaded.blob.sha256
    assert house.marks(uploaded) == (house.clock.now(), None)


@pytest.mark.parametrize("content", [b"pictURE", b"", None], ids=["changed", "empty", "missing"])
async def test_damage_is_kept_with_the_time_it_was_first_seen_until_it_is_repaired(
    content: bytes | None,
) -> None:
    house = VerifyingHouse()
    uploaded = await house.take()
    if content is None:
        house.store.objects.clear()
    else:
        house.store.objects[uploaded.blob.id] = content
    first = house.clock.now()
    for _ in range(2):
        verification = await house.verify(uploaded.blob)
        assert verification is not None
        assert not verification.is_intact
        assert house.marks(uploaded) == (house.clock.now(), first)
        house.clock.advance(hours=1)
    house.store.objects[uploaded.blob.id] = b"picture"
    verification = await house.verify(uploaded.blob)
    assert verification is not None
    assert verification.is_intact
    assert house.marks(uploaded) == (house.clock.now(), None)


async def test_a_blob_that_is_deleted_meanwhile_is_not_called_damaged() -> None:
    house = VerifyingHouse()
    uploaded = await house.take()
    house.store.objects.clear()
    async with house.database.begin() as transaction:
        await transaction.blobs.mark_deleting(uploaded.blob.id)
        await transaction.commit()
    assert await house.verify(uploaded.blob) is None
    async with house.database.begin() as transaction:
        await transaction.blobs.remove(uploaded.blob.id)
        await transaction.commit()
    assert await house.verify(uploaded.blob) is None
    assert house.marks(uploaded) is None


class TwoStores(FakeBlobStore):
    """A store in which every object is in `other` alone."""

    async def sha256(self, blob_id: UUID, shard: str) -> bytes | None:
        return await super().sha256(blob_id, shard) if shard == "other" else None


async def test_a_blob_that_is_moved_meanwhile_is_looked_for_where_it_is_now() -> None:
    house = VerifyingHouse()
    uploaded = await house.take()
    store = TwoStores()
    store.objects = house.store.objects
    house.database.tables.blobs[uploaded.blob.id] = replace(uploaded.blob, shard="other")
    verification = await VerifyBlob(house.database, store, house.clock)(uploaded.blob)
    assert verification is not None
    assert verification.is_intact


async def test_a_store_that_is_away_says_nothing_of_the_blob() -> None:
    house = VerifyingHouse()
    uploaded = await house.take()
    house.store.error = StorageUnavailable()
    with pytest.raises(StorageUnavailable):
        await house.verify(uploaded.blob)
    assert house.marks(uploaded) is None

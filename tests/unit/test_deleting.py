from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from chitram.accounts.public import ANONYMOUS, Principal
from chitram.images.domain.errors import DeleteTokenRequired, ImageNotFound, InvalidDeleteToken
from chitram.images.domain.image import BlobState, Visibility
from chitram.images.domain.work import BLOB_ID, DELETE_BLOB, IMAGE_ID, PURGE_IMAGE
from chitram.images.use_cases.delete_blob import DeleteBlob, DeleteBlobCommand
from chitram.images.use_cases.delete_image import DeleteCommand, DeleteImage
from chitram.images.use_cases.expire_images import ExpireImages
from chitram.images.use_cases.upload_image import UploadRules
from chitram.kernel.errors import CommitUncertain
from chitram.kernel.versions import GONE, UNKNOWN
from tests.support.fakes import COPIES, FakeAuditLog, FakeCaches
from tests.unit.test_upload_image import House


class DeletingHouse(House):
    def __init__(self, **rules: Any) -> None:
        rules.setdefault("delete_token_life", None)
        super().__init__(UploadRules(newest_commit=timedelta(minutes=30), copies=COPIES, **rules))
        self.caches = FakeCaches()
        self.delete = DeleteImage(self.database, self.caches, self.quotas, FakeAuditLog(), self.clock)
        self.delete_blob = DeleteBlob(self.database, self.store)
        self.expire = ExpireImages(self.database, self.caches, self.quotas, self.clock)


async def test_takes_the_image_away_and_condemns_its_blob() -> None:
    house = DeletingHouse()
    uploaded = await house.take()
    await house.delete(DeleteCommand(uploaded.image.id, ANONYMOUS, uploaded.delete_token))
    tables = house.database.tables
    assert tables.images == {}
    assert tables.blobs[uploaded.blob.id].state is BlobState.DELETING
    assert list(tables.outbox.values()) == [
        (PURGE_IMAGE, {IMAGE_ID: str(uploaded.image.id), BLOB_ID: str(uploaded.blob.id)}),
        (DELETE_BLOB, {BLOB_ID: str(uploaded.blob.id)}),
    ]
    assert house.caches.invalidated == [(uploaded.image.id, GONE)]


async def test_a_commit_of_unknown_outcome_leaves_copies_to_be_looked_up_again() -> None:
    house = DeletingHouse()
    uploaded = await house.take()
    house.database.lose_answer = True
    with pytest.raises(CommitUncertain):
        await house.delete(DeleteCommand(uploaded.image.id, ANONYMOUS, uploaded.delete_token))
    assert house.caches.invalidated == [(uploaded.image.id, UNKNOWN)]


async def test_leaves_a_blob_that_another_image_shows() -> None:
    house = DeletingHouse()
    first, second = await house.take(), await house.take()
    await house.delete(DeleteCommand(first.image.id, ANONYMOUS, first.delete_token))
    assert house.database.tables.blobs[second.blob.id].state is BlobState.LIVE
    assert set(house.database.tables.images) == {second.image.id}


@pytest.mark.parametrize(
    ("token", "error"),
    [
        (None, DeleteTokenRequired),
        ("", DeleteTokenRequired),
        ("wrong", InvalidDeleteToken),
        ("\udce4", InvalidDeleteToken),
    ],
)
async def test_refuses_without_the_right_token(token: str | None, error: type[Exception]) -> None:
    house = DeletingHouse()
    uploaded = await house.take()
    with pytest.raises(error):
        await house.delete(DeleteCommand(uploaded.image.id, ANONYMOUS, token))
    assert set(house.database.tables.images) == {uploaded.image.id}
    assert house.caches.invalidated == []


async def test_refuses_a_token_whose_time_is_up() -> None:
    house = DeletingHouse(delete_token_life=timedelta(hours=1))
    uploaded = await house.take()
    house.clock.advance(hours=1)
    with pytest.raises(InvalidDeleteToken):
        await house.delete(DeleteCommand(uploaded.image.id, ANONYMOUS, uploaded.delete_token))


async def test_lets_the_owner_and_admins_delete_without_a_token_but_nobody_else() -> None:
    house = DeletingHouse()
    owner = house.somebody()
    mine = await house.take(principal=owner)
    with pytest.raises(DeleteTokenRequired):
        await house.delete(DeleteCommand(mine.image.id, Principal(uuid4())))
    with pytest.raises(InvalidDeleteToken):
        await house.delete(DeleteCommand(mine.image.id, ANONYMOUS, "guess"))
    await house.delete(DeleteCommand(mine.image.id, owner))
    other = await house.take(principal=owner)
    await house.delete(DeleteCommand(other.image.id, Principal(uuid4(), is_admin=True)))
    assert house.database.tables.images == {}


async def test_a_private_image_does_not_exist_for_others() -> None:
    house = DeletingHouse()
    mine = await house.take(principal=house.somebody(), visibility=Visibility.PRIVATE)
    with pytest.raises(ImageNotFound):
        await house.delete(DeleteCommand(mine.image.id, ANONYMOUS, "guess"))


async def test_a_second_delete_finds_nothing() -> None:
    house = DeletingHouse()
    uploaded = await house.take()
    command = DeleteCommand(uploaded.image.id, ANONYMOUS, uploaded.delete_token)
    await house.delete(command)
    with pytest.raises(ImageNotFound):
        await house.delete(command)


async def test_the_job_removes_object_row_and_outbox_entry_and_may_run_again() -> None:
    house = DeletingHouse()
    uploaded = await house.take()
    await house.delete(DeleteCommand(uploaded.image.id, ANONYMOUS, uploaded.delete_token))
    [entry_id] = (key for key, (kind, _) in house.database.tables.outbox.items() if kind == DELETE_BLOB)
    command = DeleteBlobCommand(entry_id, uploaded.blob.id)
    await house.delete_blob(command)
    await house.delete_blob(command)
    assert house.store.objects == {}
    assert house.database.tables.blobs == {}
    assert {kind for kind, _ in house.database.tables.outbox.values()} == {PURGE_IMAGE}


async def test_the_job_never_touches_a_live_blob() -> None:
    house = DeletingHouse()
    uploaded = await house.take()
    await house.delete_blob(DeleteBlobCommand(uuid4(), uploaded.blob.id))
    assert set(house.store.objects) == {uploaded.blob.id}
    assert set(house.database.tables.blobs) == {uploaded.blob.id}


async def test_expiry_removes_what_is_due_and_nothing_else() -> None:
    house = DeletingHouse()
    due = await house.take(b"one", expires_in=10)
    later = await house.take(b"two", expires_in=100)
    never = await house.take(b"three")
    house.clock.advance(seconds=10)
    with pytest.raises(ImageNotFound):
        await house.delete(DeleteCommand(due.image.id, ANONYMOUS, due.delete_token))
    assert await house.expire() == 1
    assert set(house.database.tables.images) == {later.image.id, never.image.id}
    assert house.database.tables.blobs[due.blob.id].state is BlobState.DELETING
    assert house.caches.invalidated == [(due.image.id, GONE)]

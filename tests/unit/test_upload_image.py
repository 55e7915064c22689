from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from chitram.accounts.public import ANONYMOUS, Principal
from chitram.images.domain.errors import ContentTypeMismatch, CorruptImage, DigestMismatch
from chitram.images.domain.image import Blob, Visibility
from chitram.images.domain.policies import hash_token
from chitram.images.domain.rendition import THUMBNAILS_RECIPE, Processing, RenditionSort
from chitram.images.domain.work import BLOB_ID, MAKE_RENDITIONS
from chitram.images.use_cases.upload_image import UploadCommand, UploadedImage, UploadImage, UploadRules
from chitram.kernel.errors import CommitUncertain, DatabaseUnavailable, InvalidRequest, StorageUnavailable
from tests.support.fakes import (
    COPIES,
    FakeBlobStore,
    FakeClock,
    FakeInspector,
    FakeQuotas,
    FakeReceived,
    FakeTransactions,
    a_user,
)

RULES = UploadRules(delete_token_life=None, newest_commit=timedelta(minutes=30), copies=COPIES)


class House:
    """The use case among fakes."""

    def __init__(self, rules: UploadRules = RULES) -> None:
        self.database = FakeTransactions()
        self.store = FakeBlobStore()
        self.inspector = FakeInspector()
        self.clock = FakeClock()
        self.quotas = FakeQuotas()
        self.upload = UploadImage(self.database, self.store, self.inspector, self.quotas, self.clock, rules)

    def somebody(self, **fields: Any) -> Principal:
        """Add an account, and sign in to it."""
        user = a_user(**fields)
        self.database.tables.users[user.id] = user
        return Principal(user.id)

    async def take(self, content: bytes = b"picture", **options: Any) -> UploadedImage:
        options.setdefault("principal", ANONYMOUS)
        with FakeReceived(content) as received:
            return await self.upload(UploadCommand(received=received, **options))


async def test_keeps_object_blob_image_and_outbox_together() -> None:
    house = House()
    uploaded = await house.take(filename="a.jpg")
    tables = house.database.tables
    blob = tables.blobs[uploaded.blob.id]
    assert house.store.objects == {blob.id: b"picture"}
    assert tables.images[uploaded.image.id].blob_id == blob.id
    assert list(tables.outbox.values()) == [(MAKE_RENDITIONS, {BLOB_ID: str(blob.id)})]
    assert house.database.commits == 1


async def test_gives_anonymous_uploads_a_token_of_which_only_the_hash_is_kept() -> None:
    house = House()
    uploaded = await house.take()
    assert uploaded.delete_token is not None
    assert len(uploaded.delete_token) == 43
    assert house.database.tables.images[uploaded.image.id].delete_token_hash == hash_token(
        uploaded.delete_token
    )


async def test_gives_an_owner_no_token() -> None:
    house = House()
    uploaded = await house.take(principal=house.somebody(), visibility=Visibility.PRIVATE)
    assert uploaded.delete_token is None
    assert house.database.tables.images[uploaded.image.id].delete_token_hash is None


async def test_lets_tokens_expire_when_the_operator_says_so() -> None:
    house = House(
        UploadRules(delete_token_life=timedelta(hours=1), newest_commit=timedelta(minutes=30), copies=COPIES)
    )
    uploaded = await house.take()
    image = house.database.tables.images[uploaded.image.id]
    assert image.delete_token_expires_at == house.clock.now() + timedelta(hours=1)


async def test_stores_equal_bytes_once() -> None:
    house = House()
    first, second = await house.take(), await house.take()
    assert first.image.id != second.image.id
    assert first.blob.id == second.blob.id
    assert len(house.store.objects) == 1
    assert len(house.database.tables.outbox) == 1


async def test_puts_a_missing_object_back_when_the_same_bytes_come_again() -> None:
    house = House()
    first = await house.take()
    house.store.objects.clear()
    await house.take()
    assert house.store.objects == {first.blob.id: b"picture"}


async def test_puts_a_damaged_object_back_and_has_made_what_could_not_be_made_of_it() -> None:
    house = House()
    blob = (await house.take()).blob
    house.store.objects[blob.id] = b"pisture"
    async with house.database.begin() as transaction:
        await transaction.blobs.set_verified(blob.id, house.clock.now(), is_intact=False)
        await transaction.blobs.set_recipe(blob.id, RenditionSort.THUMBNAILS, THUMBNAILS_RECIPE)
        await transaction.blobs.set_processing(blob.id, Processing.FAILED)
        await transaction.commit()
    (given_up,) = house.database.tables.outbox
    assert (await house.take()).blob.processing is Processing.PENDING
    assert house.store.objects == {blob.id: b"picture"}
    assert house.database.tables.blobs[blob.id] == blob
    ((entry_id, owed),) = house.database.tables.outbox.items()
    assert (entry_id != given_up, owed) == (True, (MAKE_RENDITIONS, {BLOB_ID: str(blob.id)}))


async def test_what_failed_over_a_whole_object_stays_given_up() -> None:
    house = House()
    blob = (await house.take()).blob
    async with house.database.begin() as transaction:
        await transaction.blobs.set_processing(blob.id, Processing.FAILED)
        await transaction.commit()
    given_up = dict(house.database.tables.outbox)
    assert (await house.take()).blob.processing is Processing.FAILED
    assert house.database.tables.outbox == given_up


async def test_makes_a_new_generation_when_the_old_one_is_being_deleted() -> None:
    house = House()
    first = await house.take()
    async with house.database.begin() as transaction:
        await transaction.images.remove(first.image.id)
        await transaction.blobs.mark_deleting(first.blob.id)
        await transaction.commit()
    second = await house.take()
    assert second.blob.id != first.blob.id
    assert set(house.store.objects) == {first.blob.id, second.blob.id}


@pytest.mark.parametrize("error", [StorageUnavailable(), DatabaseUnavailable()])
async def test_keeps_nothing_when_the_store_fails(error: Exception) -> None:
    house = House()
    house.store.error = error
    with pytest.raises(type(error)):
        await house.take()
    assert house.database.commits == 0


async def test_removes_its_object_when_the_transaction_fails() -> None:
    house = House()
    house.database.commit_error = DatabaseUnavailable()
    with pytest.raises(DatabaseUnavailable):
        await house.take()
    assert house.store.objects == {}


async def test_keeps_its_object_when_it_is_unknown_whether_the_commit_happened() -> None:
    house = House()
    house.database.commit_error = CommitUncertain()
    with pytest.raises(CommitUncertain):
        await house.take()
    assert len(house.store.objects) == 1


async def test_does_not_ask_again_when_the_commit_was_waited_for_in_vain() -> None:
    house = House()
    house.database.commit_error = CommitUncertain(timed_out=True)
    begun = house.database.begun
    with pytest.raises(CommitUncertain):
        await house.take()
    assert house.database.begun - begun == 2
    assert len(house.store.objects) == 1


async def test_answers_as_usual_when_only_the_answer_of_the_commit_was_lost() -> None:
    house = House()
    house.database.lose_answer = True
    uploaded = await house.take()
    assert uploaded.image.id in house.database.tables.images
    assert len(house.store.objects) == 1


async def test_joins_the_other_upload_when_it_loses_the_race_for_a_content() -> None:
    house = House()

    class Racing(FakeBlobStore):
        """Lets another upload of the same bytes finish while ours is being stored."""

        async def put(
            self, blob_id: UUID, shard: str, chunks: Iterable[bytes], size: int, media_type: str
        ) -> None:
            await super().put(blob_id, shard, chunks, size, media_type)
            if len(self.objects) == 1:
                await other.take()

    other = House()
    other.database = house.database
    racing = Racing()
    other.store = racing
    other.upload = UploadImage(house.database, racing, other.inspector, other.quotas, other.clock, RULES)
    house.store = racing
    house.upload = UploadImage(house.database, racing, house.inspector, house.quotas, house.clock, RULES)
    uploaded = await house.take()
    assert len(house.database.tables.blobs) == 1
    assert set(racing.objects) == {uploaded.blob.id}
    assert len(house.database.tables.images) == 2


async def test_gives_up_when_the_content_is_deleted_under_it_again_and_again() -> None:
    house = House()
    first = await house.take()

    class Deleted(FakeTransactions):
        """Finds the blob live when looking, dying when locking."""

        def begin(self) -> Any:
            unit = super().begin()

            async def lock(blob_id: UUID) -> Blob | None:
                return None

            unit.blobs.lock = lock  # type: ignore[method-assign] # the race itself
            return unit

    deleted = Deleted()
    deleted.tables = house.database.tables
    house.upload = UploadImage(deleted, house.store, house.inspector, house.quotas, house.clock, RULES)
    with pytest.raises(StorageUnavailable):
        await house.take()
    assert set(house.store.objects) == {first.blob.id}


async def test_takes_the_object_away_again_that_it_had_put_back_under_a_dying_blob() -> None:
    house = House()
    first = await house.take()
    house.store.objects.clear()

    class Dying(FakeTransactions):
        """The blob is live at the first look, and gone ever after."""

        looks = 0

        def begin(self) -> Any:
            unit = super().begin()
            find_live = unit.blobs.find_live

            async def find(sha256: bytes) -> Blob | None:
                Dying.looks += 1
                return await find_live(sha256) if Dying.looks == 1 else None

            async def lock(blob_id: UUID) -> Blob | None:
                self.tables.blobs.pop(blob_id)
                return None

            unit.blobs.find_live = find  # type: ignore[method-assign] # the race itself
            unit.blobs.lock = lock  # type: ignore[method-assign] # the race itself
            return unit

    dying = Dying()
    dying.tables = house.database.tables
    house.upload = UploadImage(dying, house.store, house.inspector, house.quotas, house.clock, RULES)
    second = await house.take()
    assert first.blob.id not in house.store.objects
    assert set(house.store.objects) == {second.blob.id}


async def test_refuses_a_blob_id_that_reconcile_may_have_judged_and_makes_another() -> None:
    house = House()
    house.clock.advance(hours=-2)
    with pytest.raises(StorageUnavailable):
        await house.take()
    assert house.store.objects == {}
    assert house.database.commits == 0


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"visibility": Visibility.PRIVATE}, InvalidRequest),
        ({"expires_in": 0}, InvalidRequest),
        ({"expires_in": 10**12}, InvalidRequest),
        ({"expected_digest": bytes(32)}, DigestMismatch),
        ({"declared_type": "image/png"}, ContentTypeMismatch),
        ({"declared_type": "text/html"}, ContentTypeMismatch),
    ],
)
async def test_refuses_what_it_cannot_do_and_keeps_nothing(
    options: dict[str, Any], error: type[Exception]
) -> None:
    house = House()
    with pytest.raises(error):
        await house.take(**options)
    assert house.store.objects == {}
    assert house.database.commits == 0


@pytest.mark.parametrize("declared", [None, "", "application/octet-stream", "image/jpg", "IMAGE/JPEG; q=1"])
async def test_accepts_a_declared_type_that_says_nothing_or_the_truth(declared: str | None) -> None:
    uploaded = await House().take(declared_type=declared)
    assert uploaded.blob.format.media_type == "image/jpeg"


async def test_refuses_what_the_inspector_refuses() -> None:
    house = House()
    house.inspector.error = CorruptImage()
    with pytest.raises(CorruptImage):
        await house.take()
    assert house.store.objects == {}


async def test_an_image_expires_when_asked_to() -> None:
    house = House()
    uploaded = await house.take(expires_in=60)
    assert uploaded.image.expires_at == house.clock.now() + timedelta(seconds=60)

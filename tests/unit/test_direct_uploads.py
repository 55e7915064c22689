from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from chitram.accounts.public import ANONYMOUS, Principal
from chitram.images.adapters.answer_sealer import AesGcmSealer
from chitram.images.adapters.blob_store import ObjectBlobStore
from chitram.images.adapters.quarantine import ObjectQuarantine
from chitram.images.domain.content import Inspection, Received
from chitram.images.domain.errors import (
    ContentTypeMismatch,
    CorruptImage,
    DigestMismatch,
    InvalidFileFormat,
    InvalidUploadAddress,
    InvalidUploadToken,
    UploadAlreadyCompleted,
    UploadNotFound,
    UploadNotReceived,
    UploadTokenRequired,
)
from chitram.images.domain.image import ImageFormat, Visibility
from chitram.images.domain.keys import blob_key, blob_of_key, quarantine_key, upload_of_key
from chitram.images.domain.policies import hash_token
from chitram.images.entrypoints.upload_addresses import UploadAddresses
from chitram.images.use_cases.begin_upload import (
    BeginUpload,
    BeginUploadCommand,
    BegunUpload,
    DirectUploadRules,
)
from chitram.images.use_cases.clear_uploads import MARGIN, ClearUploads
from chitram.images.use_cases.complete_upload import CompleteUpload, CompleteUploadCommand
from chitram.images.use_cases.once import Once
from chitram.images.use_cases.receive_upload import ReceiveUpload, ReceiveUploadCommand
from chitram.images.use_cases.reconcile_store import ReconcileCommand, ReconcileStore
from chitram.images.use_cases.upload_image import UploadedImage
from chitram.kernel.errors import (
    CommitUncertain,
    DatabaseUnavailable,
    FileTooLarge,
    InvalidRequest,
    StorageUnavailable,
)
from chitram.kernel.ids import new_id
from chitram.platform.objects.registry import ObjectStores
from chitram.platform.signing import Signer
from tests.support.fakes import COPIES, FakeCatalogue, FakeClock, FakeReceived
from tests.support.object_store import MemoryStore
from tests.unit.test_upload_image import House

LIFE = timedelta(minutes=15)
RULES = DirectUploadRules(life=LIFE, max_bytes=100, read_seconds=5, formats=(ImageFormat.JPEG,))
SECOND = timedelta(seconds=1)


class DirectHouse(House):
    """The use cases of direct uploads among fakes, over two stores in memory."""

    def __init__(self, spool: Path) -> None:
        super().__init__()
        self.memory, self.other = MemoryStore("first"), MemoryStore("second")
        self.quarantine = ObjectQuarantine(ObjectStores([self.memory, self.other]), spool)
        shared = (self.database, self.quarantine)
        self.begin_upload = BeginUpload(*shared, self.clock, RULES)
        self.receive_upload = ReceiveUpload(*shared, self.clock)
        once = Once(self.database, AesGcmSealer(), self.clock)
        self.complete_upload = CompleteUpload(*shared, self.upload, once, self.clock, RULES)
        self.clear = ClearUploads(*shared, self.clock, RULES)

    async def begin(self, **options: Any) -> BegunUpload:
        options.setdefault("principal", ANONYMOUS)
        return await self.begin_upload(BeginUploadCommand(**options))

    async def put(self, begun: BegunUpload, content: bytes = b"picture") -> None:
        with FakeReceived(content) as received:
            await self.receive_upload(ReceiveUploadCommand(begun.upload.id, received))

    async def complete(self, begun: BegunUpload, **fields: Any) -> UploadedImage:
        given = {"principal": ANONYMOUS, "token": begun.token, "upload_id": begun.upload.id}
        return await self.complete_upload(CompleteUploadCommand(**(given | fields)))

    async def begun_and_put(self, content: bytes = b"picture", **options: Any) -> BegunUpload:
        begun = await self.begin(**options)
        await self.put(begun, content)
        return begun

    def end(self) -> None:
        """Let the time of every upload that was begun be over, and the margin too."""
        self.clock.time += LIFE + MARGIN


@pytest.fixture
def house(tmp_path: Path) -> Iterator[DirectHouse]:
    yield DirectHouse(tmp_path)
    assert list(tmp_path.iterdir()) == []


async def test_what_was_put_becomes_an_image_and_leaves_quarantine(house: DirectHouse) -> None:
    begun = await house.begun_and_put(filename="a/b.jpg", visibility=Visibility.PUBLIC, expires_in=60)
    assert set(house.memory.objects) == {quarantine_key(begun.upload.id)}
    house.clock.advance(minutes=5)
    uploaded = await house.complete(begun, address="192.0.2.7")
    image = house.database.tables.images[uploaded.image.id]
    assert (image.filename, image.visibility) == ("b.jpg", Visibility.PUBLIC)
    assert image.expires_at == house.clock.now() + timedelta(seconds=60)
    assert image.upload_address == "192.0.2.7"
    assert uploaded.delete_token
    assert house.store.objects == {uploaded.blob.id: b"picture"}
    assert house.database.tables.uploads[begun.upload.id].image_id == image.id
    assert house.memory.objects == {}


async def test_an_upload_has_an_id_of_its_own_and_nothing_shows_it(house: DirectHouse) -> None:
    begun = await house.begun_and_put()
    assert begun.upload.id.version == 7
    assert house.database.tables.images == {}
    assert house.database.tables.blobs == {}
    uploaded = await house.complete(begun)
    assert begun.upload.id not in {uploaded.image.id, uploaded.blob.id}


async def test_only_the_hash_of_an_upload_token_is_kept(house: DirectHouse) -> None:
    begun = await house.begin()
    assert begun.token is not None
    assert house.database.tables.uploads[begun.upload.id].token_hash == hash_token(begun.token)


async def test_an_owner_needs_no_token_and_gets_no_delete_token(house: DirectHouse) -> None:
    owner = house.somebody()
    begun = await house.begun_and_put(principal=owner, visibility=Visibility.PRIVATE)
    assert begun.token is None
    uploaded = await house.complete(begun, principal=owner)
    assert (uploaded.image.owner_id, uploaded.delete_token) == (owner.user_id, None)


@pytest.mark.parametrize("principal", [ANONYMOUS, Principal(uuid4()), Principal(uuid4(), is_admin=True)])
async def test_to_others_the_upload_of_an_owner_does_not_exist(
    house: DirectHouse, principal: Principal
) -> None:
    begun = await house.begun_and_put(principal=house.somebody())
    with pytest.raises(UploadNotFound):
        await house.complete(begun, principal=principal, token="x")


@pytest.mark.parametrize(
    ("token", "error"),
    [(None, UploadTokenRequired), ("", UploadTokenRequired), ("guess", InvalidUploadToken)],
)
async def test_an_anonymous_upload_is_completed_by_its_token_alone(
    house: DirectHouse, token: str | None, error: type[Exception]
) -> None:
    begun = await house.begun_and_put()
    for principal in (ANONYMOUS, Principal(uuid4())):
        with pytest.raises(error):
            await house.complete(begun, token=token, principal=principal)
    assert (await house.complete(begun, principal=Principal(uuid4()))).image.owner_id is None


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"visibility": Visibility.PRIVATE}, InvalidRequest),
        ({"expires_in": 0}, InvalidRequest),
        ({"expires_in": 10**12}, InvalidRequest),
        ({"expires_in": 10**30}, InvalidRequest),
        ({"file_size": 0}, InvalidRequest),
        ({"file_size": -1}, InvalidRequest),
        ({"file_size": 101}, FileTooLarge),
        ({"content_type": "text/html"}, InvalidFileFormat),
        ({"content_type": "image/png"}, InvalidFileFormat),
        ({"content_type": "\0"}, InvalidFileFormat),
    ],
    ids=str,
)
async def test_what_could_never_be_completed_is_refused_at_once(
    house: DirectHouse, options: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        await house.begin(**options)
    assert house.database.tables.uploads == {}


@pytest.mark.parametrize(
    ("declared", "kept"),
    [(None, None), ("application/octet-stream", None), ("image/jpg", "image/jpeg")],
)
async def test_a_declared_type_is_kept_by_its_registered_name(
    house: DirectHouse, declared: str | None, kept: str | None
) -> None:
    assert (await house.begin(content_type=declared)).upload.content_type == kept


@pytest.mark.parametrize(("name", "kept"), [(None, None), ("../..", None), ("a\0\ud800b.jpg", "ab.jpg")])
async def test_a_name_is_made_safe_before_it_is_kept(
    house: DirectHouse, name: str | None, kept: str | None
) -> None:
    assert (await house.begin(filename=name)).upload.filename == kept


async def test_nothing_is_begun_while_the_store_is_away(house: DirectHouse) -> None:
    house.memory.fail_with = StorageUnavailable()
    with pytest.raises(StorageUnavailable):
        await house.begin()
    assert house.database.tables.uploads == {}


async def test_nothing_to_complete_is_said_until_something_is_put(house: DirectHouse) -> None:
    begun = await house.begin()
    with pytest.raises(UploadNotReceived):
        await house.complete(begun)
    await house.put(begun)
    await house.complete(begun)


async def test_a_refused_content_may_be_replaced(house: DirectHouse) -> None:
    begun = await house.begun_and_put(b"<html>")
    house.inspector.error = CorruptImage()
    with pytest.raises(CorruptImage):
        await house.complete(begun)
    house.inspector.error = None
    with pytest.raises(DigestMismatch):
        await house.complete(begun, expected_digest=bytes(32))
    assert house.database.tables.images == {}
    await house.put(begun, b"picture")
    assert house.store.objects == {(await house.complete(begun)).blob.id: b"picture"}


async def test_the_declared_type_is_compared_at_the_end(house: DirectHouse) -> None:
    begun = await house.begun_and_put(content_type="image/jpeg")

    async def png(received: Received) -> Inspection:
        return Inspection(
            format=ImageFormat.PNG,
            width=1,
            height=1,
            pieces=(b"x",),
            size=1,
            sha256=bytes(32),
        )

    house.inspector.inspect = png  # type: ignore[method-assign] # another verdict
    with pytest.raises(ContentTypeMismatch):
        await house.complete(begun)


@pytest.mark.parametrize(("size", "error"), [(101, FileTooLarge), (0, InvalidRequest)])
async def test_a_size_that_is_not_allowed_is_refused_at_the_end(
    house: DirectHouse, size: int, error: type[Exception]
) -> None:
    begun = await house.begin()
    await house.memory.put(quarantine_key(begun.upload.id), [bytes(size)], size)
    with pytest.raises(error):
        await house.complete(begun)
    assert house.database.tables.images == {}


async def test_what_was_read_is_what_is_stored_whatever_is_put_meanwhile(house: DirectHouse) -> None:
    begun = await house.begun_and_put(b"first")
    inspect = house.inspector.inspect

    async def inspect_late(received: Received) -> Inspection:
        await house.put(begun, b"second")
        return await inspect(received)

    house.inspector.inspect = inspect_late  # type: ignore[method-assign] # the race itself
    uploaded = await house.complete(begun)
    assert house.store.objects == {uploaded.blob.id: b"first"}


async def test_an_upload_is_completed_once(house: DirectHouse) -> None:
    begun = await house.begun_and_put()
    uploaded = await house.complete(begun)
    with pytest.raises(UploadAlreadyCompleted) as refusal:
        await house.complete(begun)
    assert refusal.value.details == {"image_id": str(uploaded.image.id)}
    with pytest.raises(UploadAlreadyCompleted):
        await house.put(begun)
    assert house.memory.objects == {}
    assert len(house.database.tables.images) == 1


@pytest.mark.parametrize("other", [b"picture", b"another"])
async def test_of_two_completions_at_once_one_wins(house: DirectHouse, other: bytes) -> None:
    """The second begins while the first is being checked, with the same content or another."""
    begun = await house.begun_and_put()
    inspect, winners = house.inspector.inspect, list[UploadedImage]()

    async def inspect_late(received: Received) -> Inspection:
        house.inspector.inspect = inspect  # type: ignore[method-assign] # the race itself
        await house.put(begun, other)
        winners.append(await house.complete(begun))
        return await inspect(received)

    house.inspector.inspect = inspect_late  # type: ignore[method-assign] # the race itself
    with pytest.raises(UploadAlreadyCompleted) as refusal:
        await house.complete(begun)
    [winner] = winners
    assert refusal.value.details == {"image_id": str(winner.image.id)}
    assert set(house.database.tables.images) == {winner.image.id}
    assert house.store.objects == {winner.blob.id: other}


async def test_the_bytes_may_be_gone_because_another_completion_won(house: DirectHouse) -> None:
    begun = await house.begun_and_put()
    fetch = house.quarantine.fetch

    def fetch_late(*args: Any, **fields: Any) -> Any:
        tables, key = house.database.tables, quarantine_key(begun.upload.id)
        house.memory.objects.pop(key)
        tables.uploads[begun.upload.id] = replace(begun.upload, image_id=uuid4())
        return fetch(*args, **fields)

    house.quarantine.fetch = fetch_late  # type: ignore[method-assign] # the race itself
    with pytest.raises(UploadAlreadyCompleted):
        await house.complete(begun)


async def test_a_completion_that_outlives_its_upload_keeps_nothing(house: DirectHouse) -> None:
    begun = await house.begun_and_put()
    inspect = house.inspector.inspect

    async def inspect_too_late(received: Received) -> Inspection:
        house.end()
        await house.clear()
        return await inspect(received)

    house.inspector.inspect = inspect_too_late  # type: ignore[method-assign] # the race itself
    with pytest.raises(UploadNotFound):
        await house.complete(begun)
    assert house.database.tables.images == {}
    assert house.store.objects == {}


async def test_a_lost_answer_of_the_commit_is_looked_up(house: DirectHouse) -> None:
    begun = await house.begun_and_put()
    house.database.lose_answer = True
    uploaded = await house.complete(begun)
    assert set(house.database.tables.images) == {uploaded.image.id}


@pytest.mark.parametrize("error", [DatabaseUnavailable(), CommitUncertain(timed_out=True)], ids=repr)
async def test_an_outage_leaves_the_upload_open(house: DirectHouse, error: Exception) -> None:
    begun = await house.begun_and_put()
    house.database.commit_error = error
    with pytest.raises(type(error)):
        await house.complete(begun)
    house.database.commit_error = None
    assert (await house.complete(begun)).image.id in house.database.tables.images


async def test_after_its_time_an_upload_is_no_more(house: DirectHouse) -> None:
    begun = await house.begun_and_put()
    house.clock.time = begun.upload.expires_at
    for attempt in (house.put(begun), house.complete(begun)):
        with pytest.raises(UploadNotFound):
            await attempt


async def test_what_was_never_completed_is_removed_with_its_bytes(house: DirectHouse) -> None:
    begun = await house.begun_and_put()
    house.clock.time = begun.upload.expires_at + MARGIN - SECOND
    assert await house.clear() == 0
    assert set(house.memory.objects) == {quarantine_key(begun.upload.id)}
    house.clock.time += SECOND
    assert await house.clear() == 1
    assert house.memory.objects == {}
    assert house.database.tables.uploads == {}
    assert await house.clear() == 0


async def test_bytes_put_after_completion_are_removed_too(house: DirectHouse) -> None:
    begun = await house.begun_and_put()
    uploaded = await house.complete(begun)
    await house.memory.put(quarantine_key(begun.upload.id), [b"late"], 4)
    await house.clear()
    assert begun.upload.id in house.database.tables.uploads
    house.end()
    await house.clear()
    assert house.memory.objects == {}
    assert house.database.tables.uploads == {}
    assert set(house.store.objects) == {uploaded.blob.id}
    assert set(house.database.tables.images) == {uploaded.image.id}


async def test_bytes_without_an_upload_are_removed_once_they_are_old(house: DirectHouse) -> None:
    begun = await house.begin()
    known, stray, foreign = quarantine_key(begun.upload.id), quarantine_key(uuid4()), "quarantine/not-ours"
    for key in (known, stray, foreign):
        await house.other.put(key, [b"x"], 1)
    house.end()
    # However old its bytes are, what has a row is judged by its row.
    lasting = replace(begun.upload, expires_at=house.clock.now() + LIFE)
    house.database.tables.uploads[begun.upload.id] = lasting
    house.clock.time = house.other.modified[stray] + LIFE + MARGIN - SECOND
    assert await house.clear() == 0
    house.clock.time += SECOND
    assert await house.clear() == 1
    assert set(house.other.objects) == {known, foreign}


async def test_a_file_that_is_too_large_is_removed_when_it_is_seen(house: DirectHouse) -> None:
    begun, large = await house.begun_and_put(bytes(100)), await house.begin()
    await house.memory.put(quarantine_key(large.upload.id), [bytes(101)], 101)
    assert await house.clear() == 1
    assert set(house.memory.objects) == {quarantine_key(begun.upload.id)}


async def test_blobs_are_not_quarantined(house: DirectHouse) -> None:
    await house.memory.put(blob_key(uuid4()), [bytes(101)], 101)
    house.end()
    house.clock.advance(days=1)
    assert await house.clear() == 0
    assert len(house.memory.objects) == 1


async def test_a_store_that_is_away_keeps_nothing_else_from_being_cleared(house: DirectHouse) -> None:
    on_first = [await house.begun_and_put() for _ in range(2)]
    elsewhere = await house.begin()
    for name, begun in (("second", elsewhere), ("dropped", await house.begin())):
        house.database.tables.uploads[begun.upload.id] = replace(begun.upload, shard=name)
    await house.other.put(quarantine_key(elsewhere.upload.id), [b"x"], 1)
    house.end()
    house.memory.fail_with = StorageUnavailable()
    assert await house.clear() == 2
    assert set(house.database.tables.uploads) == {begun.upload.id for begun in on_first}
    assert house.other.objects == {}
    house.memory.fail_with = None
    assert await house.clear() == 2
    assert house.memory.objects == {}


async def test_reconcile_takes_nothing_in_quarantine_for_an_orphan(
    house: DirectHouse, tmp_path: Path
) -> None:
    stores = ObjectStores([house.memory])
    await house.begun_and_put()
    await house.memory.put(blob_key(uuid4()), [b"x"], 1)
    blobs, catalogue = ObjectBlobStore(stores, tmp_path), FakeCatalogue(house.database)
    reconcile = ReconcileStore(house.database, catalogue, blobs, house.clock, COPIES)
    house.clock.advance(days=1)
    report = await reconcile(ReconcileCommand(timedelta(hours=1), apply=True, force=True))
    assert (report.objects, report.orphans, report.removed) == (1, 1, 1)
    assert len(house.memory.objects) == 1


def test_keys_of_uploads_and_blobs_are_never_each_others() -> None:
    some_id = uuid4()
    assert upload_of_key(quarantine_key(some_id)) == some_id
    assert upload_of_key(blob_key(some_id)) is None
    assert blob_of_key(quarantine_key(some_id)) is None


@pytest.mark.parametrize(
    "key",
    [
        "quarantine/",
        "quarantine/x",
        f"quarantine/{'0' * 32}",
        f"quarantine/a/{UUID(int=0)}",
        str(UUID(int=0)),
    ],
)
def test_a_foreign_key_is_no_uploads(key: str) -> None:
    assert upload_of_key(key) is None


class TestUploadAddresses:
    clock = FakeClock()
    addresses = UploadAddresses(Signer(("k" * 32,), "direct upload"), clock, "https://images.example/")
    upload_id = new_id(clock.now())

    def parts(self) -> tuple[str, str]:
        address = self.addresses.make(self.upload_id, self.clock.now() + LIFE)
        path, _, query = address.partition("?expires=")
        assert path == f"https://images.example/api/v1/uploads/{self.upload_id}/content"
        expires, _, signature = query.partition("&signature=")
        return expires, signature

    def test_an_address_is_known_again_until_its_time_is_over(self) -> None:
        expires, signature = self.parts()
        self.addresses.check(self.upload_id, expires, signature)
        self.clock.time += LIFE
        with pytest.raises(InvalidUploadAddress):
            self.addresses.check(self.upload_id, expires, signature)

    def test_without_a_base_an_address_is_a_path(self) -> None:
        addresses = UploadAddresses(Signer(("k" * 32,), "direct upload"), self.clock, "")
        assert addresses.make(self.upload_id, self.clock.now()).startswith("/api/v1/uploads/")

    def test_nothing_else_is_taken_for_an_address(self) -> None:
        expires, signature = self.parts()
        for upload_id, *given in (
            (uuid4(), expires, signature),
            (self.upload_id, str(int(expires) + 1), signature),
            (self.upload_id, f"0{expires}", signature),
            (self.upload_id, expires, signature[:-1]),
            (self.upload_id, expires, None),
            (self.upload_id, None, signature),
            (self.upload_id, None, None),
            (self.upload_id, "\ud800", "\ud800"),
            (self.upload_id, expires, Signer(("k" * 32,), "other").sign(str(self.upload_id), expires)),
        ):
            with pytest.raises(InvalidUploadAddress):
                self.addresses.check(upload_id, *given)

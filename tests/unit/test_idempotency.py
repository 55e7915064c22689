from __future__ import annotations

import asyncio
from dataclasses import replace
from hashlib import sha256
from typing import Any
from uuid import UUID, uuid4

import pytest

from chitram.accounts.public import ANONYMOUS, Principal
from chitram.images.adapters.answer_sealer import AesGcmSealer
from chitram.images.domain.errors import (
    CorruptImage,
    DigestMismatch,
    IdempotencyInProgress,
    IdempotencyKeyReused,
)
from chitram.images.domain.idempotency import LEASE, IdempotencyKey, digest_of, idempotency_key
from chitram.images.domain.image import Visibility
from chitram.images.domain.policies import hash_token
from chitram.images.domain.rendition import Rendition, RenditionFormat, RenditionKind, RenditionSort
from chitram.images.use_cases import once as once_module
from chitram.images.use_cases.delete_image import DeleteCommand, DeleteImage
from chitram.images.use_cases.forget_keys import ForgetKeys
from chitram.images.use_cases.held_key import HeldKey
from chitram.images.use_cases.once import Once
from chitram.images.use_cases.upload_image import UploadCommand, UploadedImage
from chitram.images.use_cases.upload_once import UploadOnce
from chitram.kernel.errors import CommitUncertain, DatabaseUnavailable, InvalidRequest
from tests.support.fakes import FakeAuditLog, FakeCaches, FakeReceived
from tests.support.rendering import made_of
from tests.unit.test_upload_image import House

KEY = "4d1c0f6e-7a39-4c55-9d2b-1e8f60a7b3c4"


# Of an upload of these bytes without a name or any option.
PICTURE = digest_of("upload", sha256(b"picture").digest(), None, None, "unlisted", None)


class OnceHouse(House):
    """Uploading under keys, among fakes."""

    def __init__(self) -> None:
        super().__init__()
        self.once = Once(self.database, AesGcmSealer(), self.clock)
        self.upload_once = UploadOnce(self.upload, self.once)

    async def ask(
        self, content: bytes = b"picture", key: str = KEY, user_id: UUID | None = None, **options: Any
    ) -> UploadedImage:
        principal = Principal(user_id) if user_id else ANONYMOUS
        with FakeReceived(content) as received:
            command = UploadCommand(received=received, principal=principal, **options)
            return await self.upload_once(command, idempotency_key(key, user_id))

    def end_leases(self) -> None:
        """Let all the time pass that leases last."""
        for key_hash, row in self.database.tables.keys.items():
            self.database.tables.keys[key_hash] = replace(row, leased_until=row.leased_until - LEASE)


async def test_a_repeat_gets_the_first_answer() -> None:
    house = OnceHouse()
    first = await house.ask(filename="a.jpg", expires_in=60)
    again = await house.ask(filename="a.jpg", expires_in=60)
    assert (again.image, again.blob, again.delete_token) == (first.image, first.blob, first.delete_token)
    assert (first.replayed, again.replayed) == (False, True)
    assert len(house.database.tables.images) == 1


async def test_a_repeat_is_told_of_the_renditions_that_were_there_at_first() -> None:
    house = OnceHouse()
    blob = (await house.ask(key="q9Zr3TnVw0LxBk5MfYhs2A")).blob
    small = Rendition(
        blob_id=blob.id,
        kind=RenditionKind.SMALL,
        recipe=1,
        format=RenditionFormat.WEBP,
        width=4,
        height=3,
        byte_size=1,
        sha256=bytes(32),
        created_at=house.clock.now(),
    )
    await house.database.record_made(made_of(blob.id, RenditionSort.THUMBNAILS, small, shard=blob.shard))
    first = await house.ask()
    await house.database.record_made(made_of(blob.id, RenditionSort.THUMBNAILS, shard=blob.shard))
    assert first.renditions == (small,)
    assert (await house.ask()).renditions == first.renditions


async def test_a_repeat_is_not_checked_again() -> None:
    house = OnceHouse()
    await house.ask()
    house.inspector.error = AssertionError("inspected")
    assert (await house.ask()).replayed


async def test_the_token_is_kept_where_only_the_key_opens_it() -> None:
    house = OnceHouse()
    first = await house.ask()
    assert first.delete_token is not None
    (row,) = house.database.tables.keys.values()
    assert row.record.sealed_answer is not None
    for secret in (first.delete_token, KEY):
        assert secret.encode() not in row.record.sealed_answer
    assert KEY not in repr(idempotency_key(KEY, None))


@pytest.mark.parametrize(
    "other",
    [
        {"content": b"another picture"},
        {"filename": "b.jpg"},
        {"visibility": Visibility.PUBLIC},
        {"expires_in": 60},
        {"declared_type": "image/jpeg"},
    ],
    ids=["content", "name", "visibility", "life", "type"],
)
async def test_a_key_is_good_for_one_request(other: dict[str, Any]) -> None:
    house = OnceHouse()
    await house.ask()
    with pytest.raises(IdempotencyKeyReused):
        await house.ask(**other)
    assert len(house.database.tables.images) == 1


async def test_nobody_meets_the_key_of_another() -> None:
    house = OnceHouse()
    users = [None, house.somebody().user_id, house.somebody().user_id]
    made = [await house.ask(user_id=user_id) for user_id in users]
    assert not any(uploaded.replayed for uploaded in made)
    assert len(house.database.tables.images) == 3
    assert all([(await house.ask(user_id=user_id)).replayed for user_id in users])


async def test_a_refusal_frees_the_key() -> None:
    house = OnceHouse()
    house.inspector.error = CorruptImage()
    with pytest.raises(CorruptImage):
        await house.ask(b"broken")
    house.inspector.error = None
    assert not (await house.ask(b"whole")).replayed


async def test_what_was_garbled_on_its_way_is_no_other_request() -> None:
    house = OnceHouse()
    expected = digest_of("other bytes")
    for _ in range(2):
        with pytest.raises(DigestMismatch):
            await house.ask(expected_digest=expected)
    assert not house.database.tables.keys


async def test_a_request_that_is_cancelled_frees_the_key() -> None:
    house = OnceHouse()
    working = asyncio.Event()

    async def never(_: object) -> UploadedImage:
        working.set()
        await asyncio.Event().wait()
        raise AssertionError

    key = idempotency_key(KEY, None)
    task = asyncio.create_task(house.once(key, b"digest", never))
    await working.wait()
    with pytest.raises(IdempotencyInProgress) as refused:
        await house.once(key, b"digest", never)
    assert refused.value.retry_after
    with pytest.raises(IdempotencyKeyReused):
        await house.once(key, b"another digest", never)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not house.database.tables.keys


async def test_the_one_whose_lease_is_over_makes_nothing() -> None:
    house = OnceHouse()
    answers: list[UploadedImage] = []

    async def slow(held: HeldKey | None) -> UploadedImage:
        house.end_leases()
        answers.append(await house.ask())
        return await house.upload(UploadCommand(received=received, principal=ANONYMOUS, held_key=held))

    with FakeReceived(b"picture") as received, pytest.raises(IdempotencyInProgress):
        await house.once(idempotency_key(KEY, None), PICTURE, slow)
    assert set(house.database.tables.images) == {answers[0].image.id}
    assert (await house.ask()).image == answers[0].image


async def test_a_lease_is_renewed_while_the_work_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    house = OnceHouse()
    monkeypatch.setattr(once_module, "_RENEW_SECONDS", 0.001)
    renewed = asyncio.Event()

    async def slow(_: object) -> UploadedImage:
        house.end_leases()
        before = next(iter(house.database.tables.keys.values())).leased_until
        async with asyncio.timeout(5):
            while next(iter(house.database.tables.keys.values())).leased_until == before:
                await asyncio.sleep(0.001)
        renewed.set()
        raise CorruptImage

    with pytest.raises(CorruptImage):
        await house.once(idempotency_key(KEY, None), b"digest", slow)
    assert renewed.is_set()


async def test_an_answer_lost_with_the_commit_is_found_by_the_key() -> None:
    house = OnceHouse()

    async def unsure(held: HeldKey | None) -> UploadedImage:
        with FakeReceived(b"picture") as received:
            await house.upload(UploadCommand(received=received, principal=ANONYMOUS, held_key=held))
        raise CommitUncertain

    with pytest.raises(CommitUncertain):
        await house.once(idempotency_key(KEY, None), PICTURE, unsure)
    again = await house.ask()
    assert again.replayed
    assert again.delete_token is not None
    assert set(house.database.tables.images) == {again.image.id}


async def test_a_failure_is_told_also_when_the_key_cannot_be_freed() -> None:
    house = OnceHouse()

    async def failing(_: object) -> UploadedImage:
        house.database.commit_error = DatabaseUnavailable()
        raise CorruptImage

    with pytest.raises(CorruptImage):
        await house.once(idempotency_key(KEY, None), b"digest", failing)
    house.database.commit_error = None
    with pytest.raises(IdempotencyInProgress):
        await house.once(idempotency_key(KEY, None), b"digest", failing)
    house.end_leases()
    with pytest.raises(CorruptImage):
        await house.once(idempotency_key(KEY, None), b"digest", failing)


async def test_deleting_an_image_frees_its_key() -> None:
    house = OnceHouse()
    first = await house.ask()
    delete = DeleteImage(house.database, FakeCaches(), house.quotas, FakeAuditLog(), house.clock)
    await delete(DeleteCommand(first.image.id, ANONYMOUS, first.delete_token))
    assert not house.database.tables.keys
    second = await house.ask(b"another picture")
    assert not second.replayed
    assert second.image.id != first.image.id


async def test_the_answer_is_as_good_as_the_first() -> None:
    house = OnceHouse()
    await house.ask()
    again = await house.ask()
    assert again.delete_token is not None
    assert again.image.delete_token_hash == hash_token(again.delete_token)


async def test_keys_are_forgotten_when_their_time_is_over() -> None:
    house = OnceHouse()
    await house.ask()
    assert await ForgetKeys(house.database)() == 0
    for key_hash, row in house.database.tables.keys.items():
        house.database.tables.keys[key_hash] = replace(row, expires_at=house.clock.now())
    assert await ForgetKeys(house.database)() == 1
    assert not (await house.ask()).replayed


@pytest.mark.parametrize(
    "text",
    [
        KEY,
        KEY.replace("-", ""),
        KEY.replace("-", "").upper(),
        "q9Zr3TnVw0LxBk5MfYhs2A",
        '"q9Zr3TnVw0LxBk5MfYhs2A"',
        "1234567890" * 4,
        "abcdefghijklmnopqrstuvwxyz",
    ],
)
def test_anyone_may_use_a_key_that_is_hard_to_guess(text: str) -> None:
    assert isinstance(idempotency_key(text, None), IdempotencyKey)


@pytest.mark.parametrize(
    "text",
    [
        "order-42",
        "q9Zr3TnVw0LxBk5MfYhs2",
        "1234567890" * 3,
        KEY.replace("-", "")[:31],
        "a1" * 30,
        "-" * 40,
    ],
    ids=["word", "21-characters", "30-digits", "31-hex", "repeated", "hyphens"],
)
def test_without_an_account_a_key_that_could_be_guessed_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        idempotency_key(text, None)
    assert idempotency_key(text, uuid4()) is not None


@pytest.mark.parametrize("text", ["", " ", "two words", "x" * 256, "tab\t", "caf\xe9", "line\n"])
def test_what_is_no_key_is_refused(text: str) -> None:
    for user_id in (None, uuid4()):
        with pytest.raises(InvalidRequest):
            idempotency_key(text, user_id)


def test_no_key_is_none() -> None:
    assert idempotency_key(None, None) is None


def test_no_two_lists_have_one_digest() -> None:
    lists: list[tuple[str | bytes | int | None, ...]] = [
        (),
        ("",),
        ("a", "b"),
        ("ab",),
        ("a", None),
        ("a", "None"),
        (b"a", "b"),
        (1,),
        ("1",),
        ("str:1:a",),
        ("\udcff",),
    ]
    assert len({digest_of(*parts) for parts in lists}) == len(lists)

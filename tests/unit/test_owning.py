from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from chitram.accounts.public import (
    ANONYMOUS,
    Forbidden,
    InvalidToken,
    NotAuthenticated,
    Principal,
    QuotaExceeded,
    Scope,
)
from chitram.images.domain.errors import DeleteTokenRequired, ImageNotFound
from chitram.images.domain.image import Image, Visibility
from chitram.images.domain.work import IMAGE_ID, PURGE_IMAGE, VERSION
from chitram.images.use_cases.change_image import ChangeCommand, ChangeImage
from chitram.images.use_cases.delete_image import DeleteCommand, DeleteImage
from chitram.images.use_cases.expire_images import ExpireImages
from chitram.images.use_cases.upload_image import UploadedImage
from chitram.images.use_cases.verify_blob import VerifyBlob
from chitram.images.use_cases.verify_image import VerifyCommand, VerifyImage
from chitram.kernel.errors import CommitUncertain, InvalidRequest
from chitram.kernel.versions import GONE, UNKNOWN
from tests.support.fakes import AuditLine, FakeAuditLog, FakeCaches, FakeQuotas
from tests.unit.test_upload_image import House

PRIVATE, UNLISTED = Visibility.PRIVATE, Visibility.UNLISTED
READ_ONLY, WRITE_ONLY = frozenset({Scope.READ}), frozenset({Scope.WRITE})


class OwningHouse(House):
    def __init__(self, quotas: FakeQuotas | None = None) -> None:
        super().__init__()
        if quotas:
            self.quotas = self.upload._quotas = quotas
        audit, self.caches = FakeAuditLog(), FakeCaches()
        self.change = ChangeImage(self.database, self.caches, audit, self.clock)
        self.delete = DeleteImage(self.database, self.caches, self.quotas, audit, self.clock)
        self.expire = ExpireImages(self.database, self.caches, self.quotas, self.clock)
        verify_blob = VerifyBlob(self.database, self.store, self.clock)
        self.verify = VerifyImage(self.database, verify_blob, audit, self.clock)
        self.owner = self.somebody()
        self.admin = replace(self.somebody(), is_admin=True)

    async def make(self, content: bytes = b"picture", **options: Any) -> UploadedImage:
        """An image of the owner."""
        return await self.take(content, **{"principal": self.owner, "filename": "a.jpg"} | options)

    def now(self, uploaded: UploadedImage) -> Image:
        return self.database.tables.images[uploaded.image.id]

    def used(self, principal: Principal | None = None) -> tuple[int, int]:
        """Images and bytes that are counted for an account."""
        user_id = (principal or self.owner).user_id
        assert user_id is not None
        user = self.database.tables.users[user_id]
        return user.used_images, user.used_bytes


async def test_a_change_counts_the_version_and_the_time_and_is_owed_to_caches() -> None:
    house = OwningHouse()
    uploaded = await house.make()
    house.clock.advance(hours=1)
    await house.change(
        ChangeCommand(
            image_id=uploaded.image.id, principal=house.owner, filename="../b\n.jpg", visibility=PRIVATE
        )
    )
    changed = house.now(uploaded)
    assert (changed.filename, changed.visibility) == ("b.jpg", PRIVATE)
    assert (changed.version, changed.updated_at) == (2, house.clock.now())
    assert changed.created_at == uploaded.image.created_at
    assert (PURGE_IMAGE, {IMAGE_ID: str(changed.id), VERSION: "2"}) in house.database.tables.outbox.values()
    assert house.caches.invalidated == [(changed.id, 2)]
    assert house.database.tables.audit == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"filename": ""}, ("image.jpg", UNLISTED)),
        ({"filename": "  ..  "}, ("image.jpg", UNLISTED)),
        ({"visibility": Visibility.PUBLIC}, ("a.jpg", Visibility.PUBLIC)),
    ],
)
async def test_what_is_left_out_stays_as_it_is(
    change: dict[str, Any], expected: tuple[str, Visibility]
) -> None:
    house = OwningHouse()
    uploaded = await house.make()
    await house.change(ChangeCommand(image_id=uploaded.image.id, principal=house.owner, **change))
    changed = house.now(uploaded)
    assert (changed.filename, changed.visibility) == expected


@pytest.mark.parametrize("change", [{}, {"filename": "a.jpg"}, {"visibility": UNLISTED}])
async def test_a_change_of_nothing_leaves_everything_as_it_is(change: dict[str, Any]) -> None:
    house = OwningHouse()
    uploaded = await house.make()
    house.clock.advance(hours=1)
    owed = len(house.database.tables.outbox)
    await house.change(ChangeCommand(image_id=uploaded.image.id, principal=house.owner, **change))
    assert house.now(uploaded) == uploaded.image
    assert len(house.database.tables.outbox) == owed
    assert house.caches.invalidated == []


async def test_a_change_of_unknown_outcome_leaves_copies_to_be_looked_up_again() -> None:
    house = OwningHouse()
    uploaded = await house.make()
    house.database.lose_answer = True
    with pytest.raises(CommitUncertain):
        await house.change(
            ChangeCommand(image_id=uploaded.image.id, principal=house.owner, visibility=PRIVATE)
        )
    assert house.caches.invalidated == [(uploaded.image.id, UNKNOWN)]


async def test_nobody_but_the_owner_and_administrators_changes_or_verifies() -> None:
    house = OwningHouse()
    stranger = house.somebody()
    cases: list[tuple[Visibility, Principal, type[Exception]]] = [
        (UNLISTED, ANONYMOUS, NotAuthenticated),
        (UNLISTED, stranger, Forbidden),
        (PRIVATE, ANONYMOUS, ImageNotFound),
        (PRIVATE, stranger, ImageNotFound),
        # Credentials that may not read know of no private image, not even of their owner's.
        (PRIVATE, replace(house.owner, scopes=WRITE_ONLY), ImageNotFound),
        (PRIVATE, replace(house.admin, scopes=WRITE_ONLY), ImageNotFound),
    ]
    for visibility, principal, error in cases:
        uploaded = await house.make(visibility=visibility)
        with pytest.raises(error):
            await house.change(
                ChangeCommand(image_id=uploaded.image.id, principal=principal, filename="b.jpg")
            )
        with pytest.raises(error):
            await house.verify(VerifyCommand(uploaded.image.id, principal))
        assert house.now(uploaded) == uploaded.image
    assert house.database.tables.audit == []


async def test_credentials_are_good_for_their_scopes_alone() -> None:
    house = OwningHouse()
    for who in (house.owner, house.admin):
        reader = replace(who, scopes=READ_ONLY)
        uploaded = await house.make(visibility=PRIVATE)
        for refused in (
            house.change(ChangeCommand(image_id=uploaded.image.id, principal=reader, filename="b.jpg")),
            house.delete(DeleteCommand(uploaded.image.id, reader)),
        ):
            with pytest.raises(Forbidden) as refusal:
                await refused
            assert refusal.value.details == {"scope": "images:write"}
        assert (await house.verify(VerifyCommand(uploaded.image.id, reader))).is_intact
        unlisted, writer = await house.make(), replace(who, scopes=WRITE_ONLY)
        with pytest.raises(Forbidden) as refusal:
            await house.verify(VerifyCommand(unlisted.image.id, writer))
        assert refusal.value.details == {"scope": "images:read"}
        with pytest.raises(ImageNotFound):
            await house.delete(DeleteCommand(uploaded.image.id, writer))
        await house.delete(DeleteCommand(unlisted.image.id, writer))


async def test_a_delete_token_deletes_whatever_the_credentials_beside_it_are_good_for() -> None:
    house = OwningHouse()
    uploaded = await house.take()
    reader = replace(house.owner, scopes=READ_ONLY)
    with pytest.raises(DeleteTokenRequired):
        await house.delete(DeleteCommand(uploaded.image.id, reader))
    await house.delete(DeleteCommand(uploaded.image.id, reader, uploaded.delete_token))


async def test_an_image_of_nobody_is_changed_by_administrators_alone_and_never_private() -> None:
    house = OwningHouse()
    uploaded = await house.take()
    for principal, error in ((ANONYMOUS, NotAuthenticated), (house.owner, Forbidden)):
        with pytest.raises(error):
            await house.change(
                ChangeCommand(image_id=uploaded.image.id, principal=principal, filename="b.jpg")
            )
    with pytest.raises(InvalidRequest):
        await house.change(
            ChangeCommand(image_id=uploaded.image.id, principal=house.admin, visibility=PRIVATE)
        )
    assert house.now(uploaded) == uploaded.image


async def test_an_expired_image_is_neither_changed_nor_verified() -> None:
    house = OwningHouse()
    uploaded = await house.make(expires_in=10)
    house.clock.advance(seconds=10)
    with pytest.raises(ImageNotFound):
        await house.change(ChangeCommand(image_id=uploaded.image.id, principal=house.owner))
    with pytest.raises(ImageNotFound):
        await house.verify(VerifyCommand(uploaded.image.id, house.owner))


async def test_what_administrators_do_to_what_is_not_theirs_is_written_down() -> None:
    house = OwningHouse()
    admin = house.admin
    theirs, mine, nobodys = await house.make(), await house.make(principal=admin), await house.take()
    for uploaded in (theirs, mine, nobodys):
        await house.verify(VerifyCommand(uploaded.image.id, admin))
        await house.change(ChangeCommand(image_id=uploaded.image.id, principal=admin, filename="b.jpg"))
        await house.delete(DeleteCommand(uploaded.image.id, admin))
    owners = {theirs: str(house.owner.user_id), nobodys: None}
    changed = {"visibility": "unlisted", "filename": "b.jpg"}
    assert house.database.tables.audit == [
        AuditLine(admin.user_id, action, f"image:{uploaded.image.id}", {"owner_id": owner, **details})
        for uploaded, owner in owners.items()
        for action, details in (("image.verify", {}), ("image.change", changed), ("image.delete", {}))
    ]


async def test_a_deletion_that_was_not_committed_is_not_written_down() -> None:
    house = OwningHouse()
    uploaded = await house.make()
    house.database.commit_error = RuntimeError()
    with pytest.raises(RuntimeError):
        await house.delete(DeleteCommand(uploaded.image.id, house.admin))
    assert house.database.tables.audit == []


async def test_every_image_counts_its_full_size_until_it_goes() -> None:
    house = OwningHouse()
    first = await house.make()
    second = await house.make()
    assert first.blob.id == second.blob.id
    assert house.used() == (2, 14)
    await house.make(b"other", expires_in=10)
    assert house.used() == (3, 19)
    await house.delete(DeleteCommand(first.image.id, house.admin))
    assert house.used() == (2, 12)
    house.clock.advance(seconds=10)
    assert await house.expire() == 1
    assert house.used() == (1, 7)
    assert house.used(house.admin) == (0, 0)
    with pytest.raises(ImageNotFound):
        await house.delete(DeleteCommand(first.image.id, house.owner))
    assert house.used() == (1, 7)


async def test_a_quota_is_used_to_the_last_byte_and_a_refusal_leaves_nothing() -> None:
    house = OwningHouse(FakeQuotas(quota_bytes=14))
    kept = [await house.make(), await house.make()]
    for content in (b"picture", b"p"):
        with pytest.raises(QuotaExceeded):
            await house.make(content)
    tables = house.database.tables
    assert house.used() == (2, 14)
    assert set(tables.images) == {one.image.id for one in kept}
    assert set(tables.blobs) == set(house.store.objects) == {kept[0].blob.id}
    # Others have quotas of their own, and nobody has none.
    await house.make(b"x" * 14, principal=house.admin)
    await house.take(b"y" * 15)


async def test_a_commit_whose_answer_was_lost_is_counted_once() -> None:
    house = OwningHouse()
    house.database.lose_answer = True
    await house.make()
    house.database.lose_answer = False
    assert house.used() == (1, 7)


async def test_the_number_of_images_is_limited_too() -> None:
    house = OwningHouse(FakeQuotas(quota_images=1))
    uploaded = await house.make()
    with pytest.raises(QuotaExceeded):
        await house.make()
    await house.delete(DeleteCommand(uploaded.image.id, house.owner))
    await house.make()
    assert house.caches.invalidated == [(uploaded.image.id, GONE)]


async def test_an_account_that_is_gone_keeps_nothing() -> None:
    house = OwningHouse()
    with pytest.raises(InvalidToken):
        await house.take(principal=Principal(uuid4()))
    assert house.store.objects == {}
    assert house.database.tables.images == {}

"""Making, giving up and clearing renditions, among fakes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest

from chitram.accounts.public import ANONYMOUS
from chitram.images.domain.keys import rendition_name
from chitram.images.domain.rendition import (
    OPTIMISED_KINDS,
    OPTIMISED_MAX_PIXELS,
    THUMBNAIL_SIDES,
    Processing,
    Rendition,
    RenditionKind,
    RenditionSort,
)
from chitram.images.domain.work import (
    BLOB_ID,
    CLEAR_RENDITIONS,
    DELETE_BLOB,
    DROP_RENDITIONS,
    MAKE_RENDITIONS,
    NAMES,
    OPTIMISE,
    PURGE_IMAGE,
    REMAKE_RENDITIONS,
    REOPTIMISE,
    SHARD,
)
from chitram.images.ports import RenderingFailed
from chitram.images.public import image_body
from chitram.images.queries import view_of
from chitram.images.use_cases.delete_blob import DeleteBlob, DeleteBlobCommand
from chitram.images.use_cases.delete_image import DeleteCommand, DeleteImage
from chitram.images.use_cases.drop_renditions import DropRenditions, DropRenditionsCommand
from chitram.images.use_cases.give_up_renditions import GiveUpRenditions
from chitram.images.use_cases.make_renditions import MakeRenditions
from chitram.images.use_cases.optimise import Optimise
from chitram.images.use_cases.renditions import DamagedBlob, RenditionCommand, RenditionKeeper
from chitram.images.use_cases.upload_image import UploadedImage
from chitram.kernel.errors import CommitUncertain, DatabaseUnavailable, StorageUnavailable
from tests.support.fakes import COPIES, FakeAuditLog, FakeBlobStore, FakeCaches
from tests.support.rendering import FakeDamage, FakeRenderer
from tests.unit.test_upload_image import House

Hook = Callable[[], Awaitable[object]]
THUMBNAILS = RenditionSort.THUMBNAILS


class HookedBlobStore(FakeBlobStore):
    """A store in which something may happen right after the first rendition was put."""

    after_put: Hook | None = None

    async def put_rendition(self, rendition: Rendition, shard: str, content: bytes) -> None:
        await super().put_rendition(rendition, shard, content)
        if self.after_put is not None:
            hook, self.after_put = self.after_put, None
            await hook()


class MakingHouse(House):
    store: HookedBlobStore

    def __init__(self) -> None:
        super().__init__()
        self.store = HookedBlobStore()
        self.upload._blobs = self.store
        self.caches, self.renderer, self.damage = FakeCaches(), FakeRenderer(), FakeDamage()
        keeper = RenditionKeeper(self.database, self.store, self.caches, self.clock, self.damage, COPIES)
        self.make = MakeRenditions(keeper, self.renderer)
        self.optimise = Optimise(keeper, self.renderer)
        self.give_up = GiveUpRenditions(self.database, self.caches)
        self.drop = DropRenditions(self.database, self.store)
        self.delete = DeleteImage(self.database, self.caches, self.quotas, FakeAuditLog(), self.clock)
        self.delete_blob = DeleteBlob(self.database, self.store)

    async def take_away(self, uploaded: UploadedImage) -> None:
        await self.delete(DeleteCommand(uploaded.image.id, ANONYMOUS, uploaded.delete_token))

    def owed(self, kind: str) -> dict[UUID, dict[str, str]]:
        return {
            key: payload for key, (other, payload) in self.database.tables.outbox.items() if other == kind
        }

    def kinds_owed(self) -> list[str]:
        return sorted(kind for kind, _ in self.database.tables.outbox.values())

    def command(self, kind: str) -> RenditionCommand:
        [(entry_id, payload)] = self.owed(kind).items()
        return RenditionCommand(entry_id, UUID(payload[BLOB_ID]))

    async def run_delete(self) -> None:
        for entry_id, payload in self.owed(DELETE_BLOB).items():
            await self.delete_blob(DeleteBlobCommand(entry_id, UUID(payload[BLOB_ID])))

    async def run_drops(self, kind: str) -> None:
        for entry_id, payload in self.owed(kind).items():
            names = payload[NAMES].split() if NAMES in payload else None
            command = DropRenditionsCommand(entry_id, UUID(payload[BLOB_ID]), payload[SHARD], names)
            await self.drop(command)

    def change(self, blob_id: UUID, **fields: Any) -> None:
        blobs = self.database.tables.blobs
        blobs[blob_id] = replace(blobs[blob_id], **fields)


async def test_makes_three_thumbnails_and_owes_the_rest() -> None:
    house = MakingHouse()
    uploaded = await house.take()
    await house.make(house.command(MAKE_RENDITIONS))
    tables = house.database.tables
    blob = tables.blobs[uploaded.blob.id]
    assert (blob.processing, blob.thumbnails_recipe, blob.optimised) == (
        Processing.READY,
        THUMBNAILS.recipe,
        False,
    )
    assert {kind for _, kind in tables.renditions} == set(THUMBNAIL_SIDES)
    assert set(house.store.made) == {
        (blob.id, rendition_name(kind, THUMBNAILS.recipe)) for kind in THUMBNAIL_SIDES
    }
    assert list(tables.outbox.values()) == [(OPTIMISE, {BLOB_ID: str(blob.id)})]
    assert tables.verified[blob.id] == (house.clock.now(), None)


async def test_every_image_of_the_blob_shows_it() -> None:
    house = MakingHouse()
    first, second = await house.take(), await house.take()
    await house.make(house.command(MAKE_RENDITIONS))
    assert sorted(house.caches.invalidated) == sorted([(first.image.id, 2), (second.image.id, 2)])
    assert {image.version for image in house.database.tables.images.values()} == {2}


async def test_many_images_of_a_blob_are_shown_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("changed_blob", "renditions"):
        monkeypatch.setattr(f"chitram.images.use_cases.{module}.MOST_IMAGES", 2)
    house = MakingHouse()
    for _ in range(3):
        await house.take()
    await house.make(house.command(MAKE_RENDITIONS))
    assert (house.caches.all_invalidated, house.caches.invalidated) == (1, [])


async def test_a_commit_whose_answer_is_lost_is_shown_as_well() -> None:
    house = MakingHouse()
    await house.take()
    command = house.command(MAKE_RENDITIONS)

    async def lose() -> None:
        house.database.lose_answer = True

    house.store.after_put = lose
    with pytest.raises(CommitUncertain):
        await house.make(command)
    assert house.caches.all_invalidated == 1


async def test_a_commit_that_was_none_is_not_shown() -> None:
    house = MakingHouse()
    await house.take()
    command = house.command(MAKE_RENDITIONS)

    async def refuse() -> None:
        house.database.commit_error = DatabaseUnavailable()

    house.store.after_put = refuse
    with pytest.raises(DatabaseUnavailable):
        await house.make(command)
    assert (house.caches.all_invalidated, house.caches.invalidated) == (0, [])


async def test_a_second_run_makes_nothing_again() -> None:
    house = MakingHouse()
    await house.take()
    command = house.command(MAKE_RENDITIONS)
    await house.make(command)
    await house.make(command)
    assert house.renderer.called == 1
    assert house.kinds_owed() == [OPTIMISE]


async def test_what_cannot_be_rendered_stays_owed() -> None:
    house = MakingHouse()
    await house.take()
    house.renderer.error = RenderingFailed("odd")
    with pytest.raises(RenderingFailed):
        await house.make(house.command(MAKE_RENDITIONS))
    assert house.kinds_owed() == [MAKE_RENDITIONS]
    assert house.store.made == {}


async def test_too_few_thumbnails_are_a_failure() -> None:
    house = MakingHouse()
    await house.take()
    house.renderer.thumbnails = house.renderer.optimised  # type: ignore[method-assign] # others than asked for
    with pytest.raises(RenderingFailed):
        await house.make(house.command(MAKE_RENDITIONS))


@pytest.mark.parametrize("stored", [b"something else", None], ids=["changed", "missing"])
async def test_a_damaged_original_is_told_and_nothing_is_made_of_it(stored: bytes | None) -> None:
    house = MakingHouse()
    uploaded = await house.take()
    del house.store.objects[uploaded.blob.id]
    if stored is not None:
        house.store.objects[uploaded.blob.id] = stored
    with pytest.raises(DamagedBlob):
        await house.make(house.command(MAKE_RENDITIONS))
    now = house.clock.now()
    assert house.database.tables.verified[uploaded.blob.id] == (now, now)
    assert [blob_id for blob_id, _ in house.damage.reports] == [uploaded.blob.id]
    assert house.renderer.called == 0


async def test_an_original_that_goes_while_it_is_read_is_not_damaged() -> None:
    house = MakingHouse()
    uploaded = await house.take()
    command = house.command(MAKE_RENDITIONS)
    fetch = house.store.fetch

    def late(blob_id: UUID, shard: str) -> Any:
        del house.store.objects[blob_id]
        house.change(blob_id, shard="elsewhere")
        return fetch(blob_id, shard)

    house.store.fetch = late  # type: ignore[method-assign] # the race itself
    with pytest.raises(StorageUnavailable):
        await house.make(command)
    assert house.damage.reports == []
    assert uploaded.blob.id not in house.database.tables.verified


async def test_nothing_is_made_of_a_blob_that_is_gone() -> None:
    house = MakingHouse()
    uploaded = await house.take()
    command = house.command(MAKE_RENDITIONS)
    await house.take_away(uploaded)
    assert house.kinds_owed() == [DELETE_BLOB, PURGE_IMAGE]
    await house.make(command)
    await house.run_delete()
    await house.make(command)
    assert house.renderer.called == 0
    assert (house.store.objects, house.store.made) == ({}, {})


@pytest.mark.parametrize("wholly", [False, True], ids=["condemned", "deleted"])
async def test_clears_up_after_itself_when_the_blob_goes_meanwhile(*, wholly: bool) -> None:
    house = MakingHouse()
    uploaded = await house.take()

    async def go() -> None:
        await house.take_away(uploaded)
        if wholly:
            await house.run_delete()

    house.store.after_put = go
    await house.make(house.command(MAKE_RENDITIONS))
    assert house.store.made == {}
    assert house.database.tables.renditions == {}
    assert house.kinds_owed() == ([PURGE_IMAGE] if wholly else [DELETE_BLOB, PURGE_IMAGE])


class Killed(BaseException):
    """As if the process had ended here."""


async def test_what_a_killed_worker_had_put_is_cleared_although_the_blob_was_deleted() -> None:
    house = MakingHouse()
    uploaded = await house.take()

    async def die() -> None:
        raise Killed

    house.store.after_put = die
    with pytest.raises(Killed):
        await house.make(house.command(MAKE_RENDITIONS))
    await house.take_away(uploaded)
    await house.run_delete()
    # Another put was on its way to the store.
    house.store.made[uploaded.blob.id, "small-1"] = b"late"
    assert house.kinds_owed() == [CLEAR_RENDITIONS, PURGE_IMAGE]
    await house.run_drops(CLEAR_RENDITIONS)
    assert house.store.made == {}
    assert house.kinds_owed() == [PURGE_IMAGE]


async def test_clearing_spares_a_blob_that_is_live() -> None:
    house = MakingHouse()
    uploaded = await house.take()
    await house.make(house.command(MAKE_RENDITIONS))
    command = DropRenditionsCommand(uuid4(), uploaded.blob.id, house.store.shard, None)
    await house.drop(command)
    assert len(house.store.made) == 3
    assert len(house.store.objects) == 1


async def test_a_blob_that_is_moved_meanwhile_gets_its_renditions_where_it_is() -> None:
    house = MakingHouse()
    uploaded = await house.take()
    shards: list[str] = []
    put = house.store.put_rendition

    async def record(rendition: Rendition, shard: str, content: bytes) -> None:
        shards.append(shard)
        house.change(uploaded.blob.id, shard="elsewhere")
        await put(rendition, shard, content)

    house.store.put_rendition = record  # type: ignore[method-assign] # the race itself
    await house.make(house.command(MAKE_RENDITIONS))
    assert shards == ["memory"] * 3 + ["elsewhere"] * 3
    assert house.renderer.called == 1
    # The copy that the move left is removed with all that was put there; until then it is owed twice.
    assert house.kinds_owed() == [CLEAR_RENDITIONS, OPTIMISE]


async def test_a_newer_recipe_takes_the_place_of_the_older_whose_objects_go_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    house = MakingHouse()
    uploaded = await house.take()
    monkeypatch.setattr("chitram.images.domain.rendition.THUMBNAILS_RECIPE", 1)
    await house.make(house.command(MAKE_RENDITIONS))
    monkeypatch.setattr("chitram.images.domain.rendition.THUMBNAILS_RECIPE", 2)
    again = RenditionCommand(uuid4(), uploaded.blob.id)
    await house.make(again)
    assert {row.recipe for row in house.database.tables.renditions.values()} == {2}
    assert len(house.store.made) == 6
    [payload] = house.owed(DROP_RENDITIONS).values()
    assert payload[NAMES].split() == ["large-1", "medium-1", "small-1"]
    await house.run_drops(DROP_RENDITIONS)
    assert {name for _, name in house.store.made} == {"large-2", "medium-2", "small-2"}
    assert house.kinds_owed() == [OPTIMISE]


async def test_an_older_release_does_not_undo_what_a_newer_made() -> None:
    house = MakingHouse()
    uploaded = await house.take()
    house.change(uploaded.blob.id, processing=Processing.READY, thumbnails_recipe=9)
    await house.make(house.command(MAKE_RENDITIONS))
    assert house.renderer.called == 0


@pytest.mark.parametrize(
    "worth", [(), (RenditionKind.OPTIMISED,), OPTIMISED_KINDS], ids=["nothing", "one", "both"]
)
async def test_optimising_keeps_what_is_worth_it_and_says_that_it_is_done(
    worth: tuple[RenditionKind, ...],
) -> None:
    house = MakingHouse()
    uploaded = await house.take()
    await house.make(house.command(MAKE_RENDITIONS))
    house.renderer.worth = worth
    await house.optimise(house.command(OPTIMISE))
    tables = house.database.tables
    assert {kind for _, kind in tables.renditions} == {*THUMBNAIL_SIDES, *worth}
    assert tables.blobs[uploaded.blob.id].optimised
    assert tables.outbox == {}
    assert house.caches.invalidated[-1] == (uploaded.image.id, 3)


async def test_a_picture_of_too_many_pixels_is_not_even_read() -> None:
    house = MakingHouse()
    uploaded = await house.take()
    await house.make(house.command(MAKE_RENDITIONS))
    house.change(uploaded.blob.id, width=OPTIMISED_MAX_PIXELS, height=2)
    await house.optimise(house.command(OPTIMISE))
    assert house.renderer.called == 1
    assert house.database.tables.blobs[uploaded.blob.id].optimised


async def test_optimising_twice_works_once() -> None:
    house = MakingHouse()
    await house.take()
    await house.make(house.command(MAKE_RENDITIONS))
    command = house.command(OPTIMISE)
    await house.optimise(command)
    await house.optimise(command)
    assert house.renderer.called == 2


async def test_a_blob_whose_attempts_are_used_up_has_failed_until_it_is_tried_again() -> None:
    house = MakingHouse()
    uploaded = await house.take()
    blob_id = uploaded.blob.id
    await house.give_up(blob_id, THUMBNAILS)
    blob = house.database.tables.blobs[blob_id]
    assert (blob.processing, blob.thumbnails_recipe) == (Processing.FAILED, THUMBNAILS.recipe)
    assert house.caches.invalidated == [(uploaded.image.id, 2)]
    await house.give_up.revive(blob_id, THUMBNAILS)
    assert house.database.tables.blobs[blob_id].processing is Processing.PENDING
    await house.make(house.command(MAKE_RENDITIONS))
    assert house.database.tables.blobs[blob_id].processing is Processing.READY


async def test_a_blob_with_older_thumbnails_keeps_them_when_new_ones_cannot_be_made() -> None:
    house = MakingHouse()
    uploaded = await house.take()
    await house.make(house.command(MAKE_RENDITIONS))
    await house.give_up(uploaded.blob.id, THUMBNAILS)
    assert house.database.tables.blobs[uploaded.blob.id].processing is Processing.READY


async def test_giving_up_optimising_says_that_there_will_be_nothing() -> None:
    house = MakingHouse()
    uploaded = await house.take()
    await house.give_up(uploaded.blob.id, RenditionSort.OPTIMISED)
    blob = house.database.tables.blobs[uploaded.blob.id]
    assert (blob.processing, blob.optimised) == (Processing.PENDING, True)
    await house.give_up.revive(uploaded.blob.id, RenditionSort.OPTIMISED)
    assert not house.database.tables.blobs[uploaded.blob.id].optimised


async def test_giving_up_a_blob_that_is_gone_is_nothing() -> None:
    house = MakingHouse()
    await house.give_up(uuid4(), THUMBNAILS)
    assert house.caches.invalidated == []


async def test_deleting_leaves_no_needless_work() -> None:
    house = MakingHouse()
    uploaded = await house.take()
    async with house.database.begin() as transaction:
        for kind in (REMAKE_RENDITIONS, OPTIMISE, REOPTIMISE, DROP_RENDITIONS, CLEAR_RENDITIONS):
            await transaction.outbox.add(
                kind, {BLOB_ID: str(uploaded.blob.id), SHARD: house.store.shard, NAMES: "small-1"}
            )
        await transaction.commit()
    await house.take_away(uploaded)
    assert house.kinds_owed() == [CLEAR_RENDITIONS, DELETE_BLOB, PURGE_IMAGE]


async def test_deleting_a_blob_removes_every_rendition_of_whatever_recipe() -> None:
    house = MakingHouse()
    uploaded = await house.take()
    await house.make(house.command(MAKE_RENDITIONS))
    house.store.made[uploaded.blob.id, "small-7"] = b"from another release"
    await house.take_away(uploaded)
    await house.run_delete()
    assert (house.store.objects, house.store.made) == ({}, {})
    assert house.database.tables.renditions == {}


async def test_an_upload_over_a_blob_that_is_ready_answers_with_its_thumbnails() -> None:
    house = MakingHouse()
    first = await house.take()
    assert (first.blob.processing, first.renditions) == (Processing.PENDING, ())
    await house.make(house.command(MAKE_RENDITIONS))
    second = await house.take()
    assert second.blob.processing is Processing.READY
    body = image_body(view_of(second.image, second.blob, second.renditions))
    assert body.thumbnail_ready
    assert list(body.thumbnails) == ["small", "medium", "large"]
    assert house.kinds_owed() == [OPTIMISE]

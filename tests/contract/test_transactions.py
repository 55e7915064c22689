"""What every implementation of the transactions of images does, in memory and in PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from secrets import token_bytes
from typing import Any
from uuid import UUID, uuid4

import pytest

from chitram.images.adapters.postgres.rows import BlobRow
from chitram.images.adapters.postgres.unit_of_work import PostgresTransactions
from chitram.images.domain.image import Blob, BlobState, Image, ImageFormat, Visibility
from chitram.images.domain.rendition import (
    Processing,
    Rendition,
    RenditionFormat,
    RenditionKind,
    RenditionSort,
)
from chitram.images.domain.upload import Upload
from chitram.images.domain.work import (
    BLOB_ID,
    CLEAR_RENDITIONS,
    DELETE_BLOB,
    DROP_COPY,
    DROP_RENDITIONS,
    MAKE_RENDITIONS,
    NAMES,
    OPTIMISE,
    REMAKE_RENDITIONS,
    SHARD,
)
from chitram.images.ports import (
    BegunMaking,
    BlobCatalogue,
    LiveBlobExists,
    Recorded,
    Recording,
    StaleBlob,
    Transactions,
)
from chitram.kernel.ids import new_id
from tests.support.database import Database, NewUrl, outbox_ids
from tests.support.fakes import FakeCatalogue, FakeTransactions
from tests.support.rendering import made_of

HOUR = timedelta(hours=1)


@pytest.fixture(params=["memory", "postgres"])
async def both(
    request: pytest.FixtureRequest, new_url: NewUrl
) -> AsyncIterator[tuple[Transactions, BlobCatalogue]]:
    if request.param == "memory":
        fake = FakeTransactions()
        yield fake, FakeCatalogue(fake)
        return
    database = await Database.open(await new_url())
    yield database.transactions, database.catalogue
    await database.aclose()


@pytest.fixture
def transactions(both: tuple[Transactions, BlobCatalogue]) -> Transactions:
    return both[0]


@pytest.fixture
def catalogue(both: tuple[Transactions, BlobCatalogue]) -> BlobCatalogue:
    return both[1]


def a_blob(**fields: Any) -> Blob:
    given: dict[str, Any] = {
        "id": new_id(datetime.now(UTC)),
        "sha256": token_bytes(32),
        "byte_size": 7,
        "format": ImageFormat.PNG,
        "width": 4,
        "height": 3,
        "shard": "local",
    }
    return Blob(**(given | fields))


def an_image(blob: Blob, **fields: Any) -> Image:
    now = datetime.now(UTC)
    given: dict[str, Any] = {
        "id": new_id(now),
        "blob_id": blob.id,
        "filename": "చిత్రం.png",
        "visibility": Visibility.UNLISTED,
        "created_at": now,
        "updated_at": now,
    }
    return Image(**(given | fields))


async def keep(transactions: Transactions, blob: Blob, *images: Image) -> None:
    async with transactions.begin() as transaction:
        await transaction.blobs.add(blob, newer_than=HOUR)
        for image in images:
            await transaction.images.add(image)
        await transaction.commit()


async def test_what_was_committed_is_there_with_every_field(transactions: Transactions) -> None:
    blob = a_blob()
    image = an_image(
        blob,
        owner_id=uuid4(),
        delete_token_hash=token_bytes(32),
        delete_token_expires_at=datetime.now(UTC) + HOUR,
        expires_at=datetime.now(UTC) + HOUR,
        upload_address="2001:db8::7",
        visibility=Visibility.PRIVATE,
    )
    await keep(transactions, blob, image)
    async with transactions.begin() as transaction:
        assert await transaction.images.get(image.id) == image
        assert await transactions.find_live(blob.sha256) == blob
        assert await transaction.blobs.lock(blob.id) == blob


async def test_the_first_image_of_a_content_is_committed_at_once_with_every_field(
    transactions: Transactions,
) -> None:
    blob = a_blob()
    image = an_image(
        blob,
        owner_id=uuid4(),
        delete_token_hash=token_bytes(32),
        delete_token_expires_at=datetime.now(UTC) + HOUR,
        expires_at=datetime.now(UTC) + HOUR,
        upload_address="2001:db8::7",
        visibility=Visibility.PRIVATE,
        version=3,
    )
    await transactions.add_first(blob, image, newer_than=HOUR)
    assert await transactions.find_live(blob.sha256) == blob
    async with transactions.begin() as transaction:
        assert await transaction.images.get(image.id) == image
        assert await transaction.blobs.get(blob.id) == blob
        assert await transaction.outbox.owes({BLOB_ID: str(blob.id)}, MAKE_RENDITIONS)


async def test_the_first_image_of_a_content_is_so_only_once_and_leaves_nothing_else(
    transactions: Transactions,
) -> None:
    first, second = a_blob(), a_blob()
    second = replace(second, sha256=first.sha256)
    await transactions.add_first(first, an_image(first), newer_than=HOUR)
    late = an_image(second)
    with pytest.raises(LiveBlobExists):
        await transactions.add_first(second, late, newer_than=HOUR)
    assert await transactions.find_live(first.sha256) == first
    async with transactions.begin() as transaction:
        assert await transaction.images.get(late.id) is None
        assert await transaction.blobs.get(second.id) is None
        assert not await transaction.outbox.owes({BLOB_ID: str(second.id)}, MAKE_RENDITIONS)


async def test_a_first_image_over_a_blob_whose_id_is_too_old_is_refused(transactions: Transactions) -> None:
    old = a_blob(id=new_id(datetime.now(UTC) - 2 * HOUR))
    with pytest.raises(StaleBlob):
        await transactions.add_first(old, an_image(old), newer_than=HOUR)
    assert await transactions.find_live(old.sha256) is None


async def test_an_image_is_changed_under_its_lock(transactions: Transactions) -> None:
    blob = a_blob()
    image, other = an_image(blob), an_image(blob)
    await keep(transactions, blob, image, other)
    changed = replace(
        image,
        filename="b.png",
        visibility=Visibility.PUBLIC,
        version=2,
        updated_at=datetime.now(UTC) + HOUR,
    )
    async with transactions.begin() as transaction:
        assert await transaction.images.lock(image.id) == image
        assert await transaction.images.lock(uuid4()) is None
        assert await transaction.blobs.get(blob.id) == blob
        assert await transaction.blobs.get(uuid4()) is None
        await transaction.images.update(changed)
        await transaction.commit()
    async with transactions.begin() as transaction:
        assert await transaction.images.get(image.id) == changed
        assert await transaction.images.get(other.id) == other


async def test_what_was_not_committed_is_not_there(transactions: Transactions) -> None:
    blob = a_blob()
    async with transactions.begin() as transaction:
        await transaction.blobs.add(blob, newer_than=HOUR)
    async with transactions.begin() as transaction:
        assert await transactions.find_live(blob.sha256) is None
        assert await transaction.blobs.lock(blob.id) is None
        assert await transaction.images.get(uuid4()) is None


async def test_a_content_has_one_live_blob_at_most(transactions: Transactions) -> None:
    first = a_blob()
    await keep(transactions, first)
    async with transactions.begin() as transaction:
        with pytest.raises(LiveBlobExists):
            await transaction.blobs.add(a_blob(sha256=first.sha256), newer_than=HOUR)


async def test_a_content_may_have_a_new_generation_beside_a_dying_one(transactions: Transactions) -> None:
    first = a_blob()
    await keep(transactions, first)
    async with transactions.begin() as transaction:
        await transaction.blobs.mark_deleting(first.id)
        await transaction.commit()
    second = a_blob(sha256=first.sha256)
    await keep(transactions, second)
    async with transactions.begin() as transaction:
        assert await transactions.find_live(first.sha256) == second
        dying = await transaction.blobs.lock(first.id)
        assert dying is not None
        assert dying.state is BlobState.DELETING


async def test_a_blob_whose_id_is_too_old_is_refused(transactions: Transactions) -> None:
    old = a_blob(id=new_id(datetime.now(UTC) - 2 * HOUR))
    async with transactions.begin() as transaction:
        with pytest.raises(StaleBlob):
            await transaction.blobs.add(old, newer_than=HOUR)


async def test_a_blob_is_shown_until_its_last_image_is_removed(transactions: Transactions) -> None:
    blob = a_blob()
    first, second = an_image(blob), an_image(blob)
    await keep(transactions, blob, first, second)
    async with transactions.begin() as transaction:
        assert await transaction.blobs.lock(blob.id) == blob
        assert await transaction.images.is_shown(blob.id)
        assert await transaction.images.remove(first.id)
        assert await transaction.images.is_shown(blob.id)
        assert not await transaction.images.remove(first.id)
        assert await transaction.images.remove(second.id)
        assert not await transaction.images.is_shown(blob.id)
        await transaction.commit()


async def test_a_removed_blob_is_gone(transactions: Transactions, catalogue: BlobCatalogue) -> None:
    blob = a_blob()
    await keep(transactions, blob)
    assert await catalogue.is_live(blob.id)
    async with transactions.begin() as transaction:
        await transaction.blobs.remove(blob.id)
        await transaction.commit()
    assert not await catalogue.is_live(blob.id)
    assert await catalogue.known([blob.id]) == {}


async def test_finds_what_has_expired_oldest_first(transactions: Transactions) -> None:
    now = datetime.now(UTC)
    blob = a_blob()
    due = [an_image(blob, expires_at=now - timedelta(seconds=age)) for age in (1, 3, 2)]
    later = an_image(blob, expires_at=now + HOUR)
    await keep(transactions, blob, *due, later, an_image(blob))
    async with transactions.begin() as transaction:
        assert await transaction.images.expired(now, 2) == [due[1].id, due[2].id]
        assert set(await transaction.images.expired(now, 10)) == {image.id for image in due}


async def test_pages_through_blobs_without_dimensions(transactions: Transactions) -> None:
    blank = [a_blob(width=None, height=None) for _ in range(3)]
    for blob in (*blank, a_blob()):
        await keep(transactions, blob)
    dying = a_blob(width=None, height=None)
    await keep(transactions, dying)
    blank.sort(key=lambda blob: blob.id)
    async with transactions.begin() as transaction:
        await transaction.blobs.mark_deleting(dying.id)
        first = await transaction.blobs.without_dimensions(UUID(int=0), 2)
        assert first == blank[:2]
        assert await transaction.blobs.without_dimensions(first[-1].id, 2) == blank[2:]
        await transaction.blobs.set_dimensions(blank[0].id, 10, 20)
        await transaction.commit()
    async with transactions.begin() as transaction:
        filled = await transactions.find_live(blank[0].sha256)
        assert filled is not None
        assert (filled.width, filled.height) == (10, 20)


async def test_damage_is_kept_from_when_it_was_first_seen(transactions: Transactions) -> None:
    blob, first = a_blob(), datetime.now(UTC)
    await keep(transactions, blob)
    seen = []
    for hours, is_intact in enumerate((False, False, True, False)):
        async with transactions.begin() as transaction:
            await transaction.blobs.set_verified(blob.id, first + hours * HOUR, is_intact=is_intact)
            await transaction.commit()
        async with transactions.begin() as transaction:
            found = await transactions.find_live(blob.sha256)
        assert found is not None
        assert found.is_damaged is not is_intact
        seen.append(await marks(transactions, blob.id))
    assert seen == [
        (first, first),
        (first + HOUR, first),
        (first + 2 * HOUR, None),
        (first + 3 * HOUR, first + 3 * HOUR),
    ]


async def marks(transactions: Transactions, blob_id: UUID) -> tuple[datetime | None, datetime | None]:
    """When a blob was verified, and since when it is known to be damaged."""
    if isinstance(transactions, FakeTransactions):
        return transactions.tables.verified[blob_id]
    assert isinstance(transactions, PostgresTransactions)
    async with transactions.begin() as transaction:
        row = await transaction.session.get_one(BlobRow, blob_id)
        return row.verified_at, row.damaged_at


def an_upload(**fields: Any) -> Upload:
    now = datetime.now(UTC)
    given: dict[str, Any] = {
        "id": new_id(now),
        "shard": "local",
        "visibility": Visibility.UNLISTED,
        "created_at": now,
        "expires_at": now + HOUR,
        "token_hash": token_bytes(32),
    }
    return Upload(**(given | fields))


async def begin(transactions: Transactions, *uploads: Upload) -> None:
    async with transactions.begin() as transaction:
        for upload in uploads:
            await transaction.uploads.add(upload)
        await transaction.commit()


async def test_an_upload_that_was_begun_is_there_with_every_field(transactions: Transactions) -> None:
    owned = an_upload(
        token_hash=None,
        owner_id=uuid4(),
        filename="చిత్రం.png",
        content_type="image/png",
        visibility=Visibility.PRIVATE,
        expires_in=10 * 365 * 86_400,
    )
    anonymous = an_upload()
    await begin(transactions, owned, anonymous)
    async with transactions.begin() as transaction:
        assert await transaction.uploads.get(owned.id) == owned
        assert await transaction.uploads.get(anonymous.id) == anonymous
        assert await transaction.uploads.get(uuid4()) is None


async def test_an_upload_is_completed_once(transactions: Transactions) -> None:
    upload, image_id = an_upload(), uuid4()
    await begin(transactions, upload)
    async with transactions.begin() as transaction:
        assert await transaction.uploads.complete(upload.id, image_id)
        await transaction.commit()
    async with transactions.begin() as transaction:
        assert not await transaction.uploads.complete(upload.id, uuid4())
        assert not await transaction.uploads.complete(uuid4(), uuid4())
        assert await transaction.uploads.get(upload.id) == replace(upload, image_id=image_id)


async def test_finds_uploads_that_ended_page_by_page(transactions: Transactions) -> None:
    now = datetime.now(UTC)
    ended = [an_upload(expires_at=now - timedelta(seconds=age)) for age in (1, 3, 2)]
    ended[1] = replace(ended[1], image_id=uuid4())
    await begin(transactions, *ended, an_upload())
    ended.sort(key=lambda upload: upload.id)
    async with transactions.begin() as transaction:
        assert await transaction.uploads.ended(now, UUID(int=0), 2) == ended[:2]
        assert await transaction.uploads.ended(now, ended[1].id, 2) == ended[2:]
        assert await transaction.uploads.ended(now - HOUR, UUID(int=0), 2) == []


async def test_a_removed_upload_is_no_longer_known(transactions: Transactions) -> None:
    kept, removed = an_upload(), an_upload()
    await begin(transactions, kept, removed)
    async with transactions.begin() as transaction:
        await transaction.uploads.remove(removed.id)
        await transaction.uploads.remove(uuid4())
        await transaction.commit()
    async with transactions.begin() as transaction:
        assert await transaction.uploads.known([kept.id, removed.id, uuid4()]) == {kept.id}


async def test_the_outbox_forgets_what_is_done_or_discarded(transactions: Transactions) -> None:
    blob_id = str(uuid4())
    async with transactions.begin() as transaction:
        done = await transaction.outbox.add(DELETE_BLOB, {BLOB_ID: blob_id})
        await transaction.outbox.add(MAKE_RENDITIONS, {BLOB_ID: blob_id})
        await transaction.outbox.add(REMAKE_RENDITIONS, {BLOB_ID: blob_id})
        kept = await transaction.outbox.add(OPTIMISE, {BLOB_ID: blob_id})
        other = await transaction.outbox.add(MAKE_RENDITIONS, {BLOB_ID: str(uuid4())})
        await transaction.commit()
    async with transactions.begin() as transaction:
        await transaction.outbox.done(done)
        await transaction.outbox.discard({BLOB_ID: blob_id}, MAKE_RENDITIONS, REMAKE_RENDITIONS)
        await transaction.commit()
    assert await entries(transactions) == {kept, other}


async def entries(transactions: Transactions) -> set[UUID]:
    if isinstance(transactions, FakeTransactions):
        return set(transactions.tables.outbox)
    return await outbox_ids(transactions)


async def test_the_catalogue_knows_live_and_dying_blobs_and_lists_the_live(
    transactions: Transactions, catalogue: BlobCatalogue
) -> None:
    live, dying = a_blob(), a_blob()
    await keep(transactions, live)
    await keep(transactions, dying)
    async with transactions.begin() as transaction:
        await transaction.blobs.mark_deleting(dying.id)
        await transaction.commit()
    known = await catalogue.known([live.id, dying.id, uuid4()])
    assert known == {live.id: live.shard, dying.id: dying.shard}
    assert not await catalogue.is_live(dying.id)
    assert [blob async for blob in catalogue.live()] == [live]


async def test_work_is_owed_until_it_is_done(transactions: Transactions) -> None:
    payload = {BLOB_ID: str(uuid4()), SHARD: "old"}
    async with transactions.begin() as transaction:
        entry_id = await transaction.outbox.add(DROP_COPY, payload, delay=HOUR)
        await transaction.commit()
    async with transactions.begin() as transaction:
        assert await transaction.outbox.owes(payload, DROP_COPY)
        assert await transaction.outbox.owes({SHARD: "old"}, DROP_COPY)
        assert await transaction.outbox.owes(payload, DELETE_BLOB, DROP_COPY)
        assert not await transaction.outbox.owes(payload, DELETE_BLOB)
        assert not await transaction.outbox.owes(payload | {SHARD: "new"}, DROP_COPY)
        await transaction.outbox.done(entry_id)
        await transaction.commit()
    async with transactions.begin() as transaction:
        assert not await transaction.outbox.owes(payload, DROP_COPY)


async def test_counts_what_each_shard_holds(transactions: Transactions, catalogue: BlobCatalogue) -> None:
    assert await catalogue.shards() == {}
    for shard in ("old", "new", "old", "a"):
        await keep(transactions, a_blob(shard=shard))
    dying = a_blob(shard="dying")
    await keep(transactions, dying)
    async with transactions.begin() as transaction:
        await transaction.blobs.mark_deleting(dying.id)
        await transaction.commit()
    ended = an_upload(shard="ended", expires_at=datetime.now(UTC))
    completed = an_upload(shard="completed", image_id=uuid4())
    await begin(transactions, an_upload(shard="new"), an_upload(shard="begun"), ended, completed)
    assert await catalogue.shards() == {"a": 1, "begun": 1, "dying": 1, "new": 2, "old": 2}


async def test_lists_and_counts_the_live_blobs_of_a_shard(
    transactions: Transactions, catalogue: BlobCatalogue
) -> None:
    moved, stayed, other, dying = (a_blob(shard=shard) for shard in ("old", "old", "new", "old"))
    for blob in (moved, stayed, other, dying):
        await keep(transactions, blob)
    async with transactions.begin() as transaction:
        await transaction.blobs.mark_deleting(dying.id)
        await transaction.blobs.place(moved.id, "new")
        await transaction.commit()
    assert [blob.id async for blob in catalogue.held_by("old")] == [stayed.id]
    assert [blob.id async for blob in catalogue.held_by("new")] == sorted([moved.id, other.id])
    assert [await catalogue.count_held_by(shard) for shard in ("old", "new", "none")] == [1, 2, 0]


def a_rendition(blob: Blob, kind: RenditionKind, **fields: Any) -> Rendition:
    given: dict[str, Any] = {
        "blob_id": blob.id,
        "kind": kind,
        "recipe": 1,
        "format": RenditionFormat.WEBP,
        "width": 150,
        "height": 84,
        "byte_size": 4210,
        "sha256": token_bytes(32),
        "created_at": datetime.now(UTC),
    }
    return Rendition(**(given | fields))


async def replace_renditions(
    transactions: Transactions, blob: Blob, sort: RenditionSort, *made: Rendition
) -> set[Rendition]:
    """Replace those of a sort; all that the blob has then."""
    await transactions.record_made(made_of(blob.id, sort, *made))
    async with transactions.begin() as transaction:
        return set(await transaction.renditions.of(blob.id))


async def test_renditions_of_a_sort_are_replaced_and_the_others_stay(
    transactions: Transactions, catalogue: BlobCatalogue
) -> None:
    blob, other = a_blob(), a_blob()
    await keep(transactions, blob)
    await keep(transactions, other)
    old = [a_rendition(blob, kind) for kind in RenditionSort.THUMBNAILS.kinds]
    optimised = a_rendition(blob, RenditionKind.OPTIMISED)
    new = [a_rendition(blob, kind, recipe=2) for kind in RenditionSort.THUMBNAILS.kinds]
    assert await replace_renditions(transactions, blob, RenditionSort.THUMBNAILS, *old) == {*old}
    assert await replace_renditions(transactions, blob, RenditionSort.OPTIMISED, optimised) == {
        *old,
        optimised,
    }
    assert await replace_renditions(transactions, blob, RenditionSort.THUMBNAILS, *new) == {*new, optimised}
    assert await replace_renditions(transactions, blob, RenditionSort.OPTIMISED) == {*new}
    names = dict.fromkeys(("small-2", "medium-2", "large-2"), 4210)
    assert await catalogue.renditions([blob.id, other.id, uuid4()]) == {blob.id: names}


THUMBNAILS, OPTIMISED = RenditionSort.THUMBNAILS, RenditionSort.OPTIMISED


async def begin_making(
    transactions: Transactions, entry_id: UUID, blob: Blob, sort: RenditionSort, clear_after: timedelta | None
) -> BegunMaking | None:
    return await transactions.begin_making(entry_id, blob.id, sort, clear_after=clear_after)


async def owe(transactions: Transactions, kind: str, payload: dict[str, str]) -> UUID:
    async with transactions.begin() as transaction:
        entry_id = await transaction.outbox.add(kind, payload)
        await transaction.commit()
    return entry_id


async def is_owed(transactions: Transactions, payload: dict[str, str], kind: str) -> bool:
    async with transactions.begin() as transaction:
        return await transaction.outbox.owes(payload, kind)


async def test_who_begins_to_make_renditions_owes_clearing_what_is_going_to_be_put(
    transactions: Transactions,
) -> None:
    blob = a_blob()
    await keep(transactions, blob)
    payload = {BLOB_ID: str(blob.id)}
    entry_id = await owe(transactions, MAKE_RENDITIONS, payload)
    for clear_after in (None, HOUR):
        begun = await begin_making(transactions, entry_id, blob, THUMBNAILS, clear_after)
        assert begun is not None
        assert begun.blob == blob
        assert (begun.clearing is not None) == bool(clear_after)
        clears = await is_owed(transactions, payload | {SHARD: blob.shard}, CLEAR_RENDITIONS)
        assert clears == bool(clear_after)
    assert await is_owed(transactions, payload, MAKE_RENDITIONS)


async def end_blob(transactions: Transactions, blob: Blob, end: str) -> None:
    async with transactions.begin() as transaction:
        if end == "gone":
            await transaction.blobs.remove(blob.id)
        elif end == "dying":
            await transaction.blobs.mark_deleting(blob.id)
        else:
            await transaction.blobs.place(blob.id, "elsewhere")
        await transaction.commit()


@pytest.mark.parametrize("end", ["gone", "dying", "made"])
@pytest.mark.parametrize("sort", list(RenditionSort))
async def test_nothing_is_begun_where_nothing_is_to_be_made(
    transactions: Transactions, sort: RenditionSort, end: str
) -> None:
    blob = a_blob()
    await keep(transactions, blob)
    payload = {BLOB_ID: str(blob.id)}
    entry_id = await owe(transactions, MAKE_RENDITIONS, payload)
    if end == "made":
        await transactions.record_made(made_of(blob.id, sort))
    else:
        await end_blob(transactions, blob, end)
    assert await begin_making(transactions, entry_id, blob, sort, HOUR) is None
    assert not await is_owed(transactions, payload, MAKE_RENDITIONS)
    assert not await is_owed(transactions, payload, CLEAR_RENDITIONS)


async def test_thumbnails_that_are_not_all_there_are_begun_again(transactions: Transactions) -> None:
    blob = a_blob()
    await keep(transactions, blob)
    async with transactions.begin() as transaction:
        # Given up by today's recipe, and asked for again.
        await transaction.blobs.set_recipe(blob.id, THUMBNAILS, THUMBNAILS.recipe)
        await transaction.commit()
    assert await begin_making(transactions, uuid4(), blob, THUMBNAILS, None) is not None


async def test_recording_renditions_changes_all_that_follows_from_it(transactions: Transactions) -> None:
    blob, other = a_blob(), a_blob()
    images = [an_image(blob) for _ in range(3)]
    await keep(transactions, blob, *images)
    await keep(transactions, other, an_image(other))
    payload = {BLOB_ID: str(blob.id)}
    settled = [await owe(transactions, MAKE_RENDITIONS, payload), await owe(transactions, DROP_COPY, payload)]
    made = made_of(
        blob.id,
        THUMBNAILS,
        a_rendition(blob, RenditionKind.SMALL),
        settled=settled,
        owed=OPTIMISE,
        same_as=(OPTIMISE,),
        most_images=2,
    )
    async with transactions.begin() as transaction:
        await transaction.blobs.set_verified(blob.id, made.at, is_intact=False)
        await transaction.commit()
    recorded = await transactions.record_made(made)
    assert recorded.outcome is Recording.RECORDED
    touched = dict(recorded.touched)
    few = {image.id for image in images if image.id in touched}
    assert len(few) == 2
    assert touched == dict.fromkeys(few, 2)
    assert not await is_owed(transactions, payload, DROP_RENDITIONS)
    async with transactions.begin() as transaction:
        found = await transaction.blobs.get(blob.id)
        assert found == replace(blob, processing=Processing.READY, thumbnails_recipe=THUMBNAILS.recipe)
        versions = {image.id: await transaction.images.get(image.id) for image in images}
        assert {each.id for each in versions.values() if each and each.version == 2} == few
    assert not await is_owed(transactions, payload, MAKE_RENDITIONS)
    assert not await is_owed(transactions, payload, DROP_COPY)
    assert await is_owed(transactions, payload, OPTIMISE)
    assert not await is_owed(transactions, {BLOB_ID: str(other.id)}, OPTIMISE)


async def test_what_follows_is_owed_once_and_what_was_replaced_is_removed(transactions: Transactions) -> None:
    blob = a_blob()
    await keep(transactions, blob)
    small, large = (a_rendition(blob, kind) for kind in (RenditionKind.SMALL, RenditionKind.LARGE))
    owed = await owe(transactions, OPTIMISE, {BLOB_ID: str(blob.id)})
    newer = a_rendition(blob, RenditionKind.SMALL, recipe=2)
    payload = {BLOB_ID: str(blob.id)}
    await transactions.record_made(made_of(blob.id, THUMBNAILS, small, large))
    options = {"owed": OPTIMISE, "same_as": (OPTIMISE,)}
    await transactions.record_made(made_of(blob.id, THUMBNAILS, newer, **options))
    # Of this name there is one again.
    await transactions.record_made(made_of(blob.id, THUMBNAILS, newer))
    async with transactions.begin() as transaction:
        await transaction.outbox.done(owed)
        await transaction.commit()
    assert not await is_owed(transactions, payload, OPTIMISE)
    replaced = payload | {SHARD: blob.shard, NAMES: "large-1 small-1"}
    assert await is_owed(transactions, replaced, DROP_RENDITIONS)
    async with transactions.begin() as transaction:
        await transaction.outbox.discard(replaced, DROP_RENDITIONS)
        await transaction.commit()
    assert not await is_owed(transactions, payload, DROP_RENDITIONS)


async def test_what_was_optimised_before_is_not_owed_again(transactions: Transactions) -> None:
    blob = a_blob()
    await keep(transactions, blob)
    await transactions.record_made(made_of(blob.id, OPTIMISED))
    small = a_rendition(blob, RenditionKind.SMALL)
    await transactions.record_made(made_of(blob.id, THUMBNAILS, small, owed=OPTIMISE, same_as=(OPTIMISE,)))
    assert not await is_owed(transactions, {BLOB_ID: str(blob.id)}, OPTIMISE)


@pytest.mark.parametrize(
    ("end", "outcome"),
    [("gone", Recording.GONE), ("dying", Recording.GONE), ("moved", Recording.MOVED)],
)
async def test_nothing_is_recorded_of_a_blob_that_is_not_there_any_more(
    transactions: Transactions, catalogue: BlobCatalogue, end: str, outcome: Recording
) -> None:
    blob = a_blob()
    image = an_image(blob)
    await keep(transactions, blob, *([] if end == "gone" else [image]))
    payload = {BLOB_ID: str(blob.id)}
    entry_id = await owe(transactions, MAKE_RENDITIONS, payload)
    await end_blob(transactions, blob, end)
    small = a_rendition(blob, RenditionKind.SMALL)
    options = {"settled": [entry_id], "owed": OPTIMISE, "same_as": (OPTIMISE,)}
    assert await transactions.record_made(made_of(blob.id, THUMBNAILS, small, **options)) == Recorded(outcome)
    assert await catalogue.renditions([blob.id]) == {}
    assert await is_owed(transactions, payload, MAKE_RENDITIONS)
    assert not await is_owed(transactions, payload, OPTIMISE)
    async with transactions.begin() as transaction:
        found = await transaction.blobs.get(blob.id)
        assert found is None or found.processing is Processing.PENDING
        shown = await transaction.images.get(image.id)
        assert shown is None or shown.version == image.version


async def test_that_nothing_is_worth_keeping_is_recorded_and_proves_nothing(
    transactions: Transactions,
) -> None:
    blob = a_blob()
    await keep(transactions, blob)
    async with transactions.begin() as transaction:
        await transaction.blobs.set_verified(blob.id, datetime.now(UTC), is_intact=False)
        await transaction.commit()
    await transactions.record_made(made_of(blob.id, OPTIMISED))
    async with transactions.begin() as transaction:
        found = await transaction.blobs.get(blob.id)
    assert found == replace(blob, optimised_recipe=OPTIMISED.recipe, is_damaged=True)


async def test_renditions_go_with_their_blob(transactions: Transactions, catalogue: BlobCatalogue) -> None:
    blob = a_blob()
    await keep(transactions, blob)
    made = a_rendition(blob, RenditionKind.SMALL)
    await replace_renditions(transactions, blob, RenditionSort.THUMBNAILS, made)
    async with transactions.begin() as transaction:
        await transaction.blobs.remove(blob.id)
        await transaction.commit()
    assert await catalogue.renditions([blob.id]) == {}


async def test_how_far_a_blob_is_stands_in_its_row(transactions: Transactions) -> None:
    blob = a_blob()
    await keep(transactions, blob)
    async with transactions.begin() as transaction:
        await transaction.blobs.set_processing(blob.id, Processing.READY)
        await transaction.blobs.set_recipe(blob.id, RenditionSort.THUMBNAILS, 3)
        await transaction.blobs.set_recipe(blob.id, RenditionSort.OPTIMISED, 2)
        await transaction.commit()
    async with transactions.begin() as transaction:
        found = await transaction.blobs.lock(blob.id)
        assert found == replace(blob, processing=Processing.READY, thumbnails_recipe=3, optimised_recipe=2)
        await transaction.blobs.set_recipe(blob.id, RenditionSort.THUMBNAILS, None)
        await transaction.commit()
    async with transactions.begin() as transaction:
        found = await transaction.blobs.lock(blob.id)
        assert found is not None
        assert found.thumbnails_recipe is None


async def test_finds_blobs_of_which_not_all_was_tried_by_todays_recipes(transactions: Transactions) -> None:
    old, new, half, dying = (a_blob() for _ in range(4))
    for blob in (old, new, half, dying):
        await keep(transactions, blob)
    async with transactions.begin() as transaction:
        today, best = THUMBNAILS.recipe, OPTIMISED.recipe
        for blob, thumbnails, optimised in (
            (old, today - 1, best),
            (new, today, best),
            (half, today, None),
        ):
            await transaction.blobs.set_recipe(blob.id, RenditionSort.THUMBNAILS, thumbnails)
            await transaction.blobs.set_recipe(blob.id, RenditionSort.OPTIMISED, optimised)
        await transaction.blobs.mark_deleting(dying.id)
        await transaction.commit()
    first, second = sorted([old.id, half.id])
    async with transactions.begin() as transaction:
        assert [blob.id for blob in await transaction.blobs.outdated(UUID(int=0), 1)] == [first]
        assert [blob.id for blob in await transaction.blobs.outdated(first, 9)] == [second]
        assert await transaction.blobs.outdated(second, 9) == []


async def test_finds_blobs_that_were_never_verified_or_longest_ago(transactions: Transactions) -> None:
    now = datetime.now(UTC)
    never, lately, long_ago, elsewhere, dying = (
        a_blob(shard=shard) for shard in ("a", "b", "a", "away", "a")
    )
    for blob in (never, lately, long_ago, elsewhere, dying):
        await keep(transactions, blob)
    async with transactions.begin() as transaction:
        await transaction.blobs.set_verified(lately.id, now, is_intact=True)
        await transaction.blobs.set_verified(long_ago.id, now - HOUR, is_intact=False)
        await transaction.blobs.mark_deleting(dying.id)
        await transaction.commit()
    async with transactions.begin() as transaction:
        found = [blob.id for blob in await transaction.blobs.least_verified({"a", "b"}, 9)]
        assert found == [never.id, long_ago.id, lately.id]
        assert [blob.id for blob in await transaction.blobs.least_verified({"b"}, 1)] == [lately.id]


async def test_a_change_of_a_blob_is_a_later_version_of_its_images(transactions: Transactions) -> None:
    blob, other = a_blob(), a_blob()
    shown, twice = an_image(blob), an_image(blob, version=4)
    elsewhere = an_image(other)
    await keep(transactions, blob, shown, twice)
    await keep(transactions, other, elsewhere)
    async with transactions.begin() as transaction:
        assert len(await transaction.images.touch(blob.id, 1)) == 1
    async with transactions.begin() as transaction:
        assert set(await transaction.images.touch(blob.id, 9)) == {(shown.id, 2), (twice.id, 5)}
        await transaction.commit()
    async with transactions.begin() as transaction:
        assert await transaction.images.get(twice.id) == replace(twice, version=5)
        assert await transaction.images.get(elsewhere.id) == elsewhere

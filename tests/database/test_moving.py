"""Moving blobs between stores, on a real database, against uploads, deletes and itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import update

from chitram.accounts.public import ANONYMOUS
from chitram.delivery.adapters.object_files import ObjectImageFiles
from chitram.delivery.representations import original
from chitram.images.adapters.blob_store import ObjectBlobStore
from chitram.images.adapters.postgres.queries import PostgresBlobPlaces
from chitram.images.domain.image import Blob
from chitram.images.domain.keys import blob_key
from chitram.images.domain.work import BLOB_ID, DELETE_BLOB, DROP_COPY, SHARD
from chitram.images.public import ImageNotFound, ImageView
from chitram.images.queries import view_of
from chitram.images.use_cases.copies import CopyRules, owe_drop
from chitram.images.use_cases.delete_blob import DeleteBlob, DeleteBlobCommand
from chitram.images.use_cases.delete_image import DeleteCommand, DeleteImage
from chitram.images.use_cases.drop_copy import DropCopy, DropCopyCommand, LastCopy
from chitram.images.use_cases.move_blobs import MoveBlobs, MoveCommand, MoveRefused, MoveReport
from chitram.images.use_cases.reconcile_store import ReconcileCommand, ReconcileStore
from chitram.images.use_cases.upload_image import UploadCommand, UploadedImage, UploadImage, UploadRules
from chitram.kernel.clock import Clock, SystemClock
from chitram.kernel.errors import StorageUnavailable
from chitram.main.container import make_container
from chitram.platform.objects.registry import ObjectStores
from chitram.platform.outbox import OutboxRow
from chitram.platform.settings import Settings
from tests.support.database import Database, NewUrl
from tests.support.fakes import (
    COPIES,
    FakeAuditLog,
    FakeCaches,
    FakeClock,
    FakeInspector,
    FakeQuotas,
    FakeReceived,
)
from tests.support.object_store import MemoryStore
from tests.support.proxy import Mode, Proxy

A_TO_B = MoveCommand("a", "b")
Hook = Callable[[], Awaitable[object]]


class HookedStore(MemoryStore):
    """A store in which something may happen right after a put."""

    after_put: Hook | None = None

    async def put(self, key: str, chunks: Iterable[bytes], size: int, media_type: str = "") -> None:
        await super().put(key, chunks, size, media_type)
        if size != len(b"probe") and self.after_put is not None:
            hook, self.after_put = self.after_put, None
            await hook()


class Site:
    """Uploads go to a; everything is moved from a to b, the first entry of the mover's settings."""

    def __init__(
        self, database: Database, spool: Path, copies: CopyRules = COPIES, clock: Clock | None = None
    ) -> None:
        self.database = database
        self.a, self.b = HookedStore("a"), HookedStore("b")
        self.clock = clock or FakeClock()
        self.before = ObjectBlobStore(ObjectStores([self.a, self.b]), spool)
        self.after = ObjectBlobStore(ObjectStores([self.b, self.a]), spool)
        begin = database.transactions
        rules = UploadRules(delete_token_life=None, newest_commit=timedelta(minutes=30), copies=copies)
        self.upload = UploadImage(begin, self.before, FakeInspector(), FakeQuotas(), self.clock, rules)
        self.delete = DeleteImage(begin, FakeCaches(), FakeQuotas(), FakeAuditLog(), self.clock)
        self.delete_blob = DeleteBlob(begin, self.after)
        self.drop_copy = DropCopy(begin, self.after)
        self.move = MoveBlobs(begin, database.catalogue, self.after, self.clock, copies)
        self.move_back = MoveBlobs(begin, database.catalogue, self.before, self.clock, copies)
        self.reconcile = ReconcileStore(begin, database.catalogue, self.after, self.clock, copies)
        self.files = ObjectImageFiles(ObjectStores([self.b, self.a]), PostgresBlobPlaces(database.reader))

    async def take(self, content: bytes) -> UploadedImage:
        with FakeReceived(content) as received:
            return await self.upload(UploadCommand(received=received, principal=ANONYMOUS))

    async def take_away(self, uploaded: UploadedImage) -> None:
        await self.delete(DeleteCommand(uploaded.image.id, ANONYMOUS, uploaded.delete_token))

    async def content(self, view: ImageView) -> bytes:
        opened = await self.files.open(original(view))
        return await opened.read(0, opened.size)

    async def owed(self) -> list[tuple[UUID, str]]:
        """Blob and store of each copy that has to go."""
        async with self.database.reader.connection() as connection:
            rows = await connection.fetch(
                "SELECT payload->>'blob_id' AS blob_id, payload->>'shard' AS shard FROM outbox"
                " WHERE kind = $1",
                DROP_COPY,
            )
        return [(UUID(row["blob_id"]), row["shard"]) for row in rows]

    async def pass_time(self) -> None:
        """Let the time pass that delayed work waits for."""
        async with self.database.transactions.begin() as transaction:
            await transaction.session.execute(update(OutboxRow).values(run_after=OutboxRow.created_at))
            await transaction.commit()

    async def work(self) -> None:
        """Do what is due by now."""
        async with self.database.transactions.begin() as transaction:
            entries = await transaction.outbox.due([DELETE_BLOB, DROP_COPY], 1000)
        for entry in entries:
            blob_id = UUID(entry.payload[BLOB_ID])
            if entry.kind == DELETE_BLOB:
                await self.delete_blob(DeleteBlobCommand(entry.id, blob_id))
            else:
                await self.drop_copy(DropCopyCommand(entry.id, blob_id, entry.payload[SHARD]))

    async def finish(self) -> None:
        await self.pass_time()
        await self.work()


@pytest.fixture
def site(database: Database, tmp_path: Path) -> Site:
    return Site(database, tmp_path)


def keys(*uploaded: UploadedImage) -> set[str]:
    return {blob_key(one.blob.id) for one in uploaded}


async def test_everything_is_moved_and_the_old_copies_go_later(site: Site) -> None:
    uploaded = [await site.take(b"picture %d" % number) for number in range(20)]
    views = [await site.database.queries.find(one.image.id) for one in uploaded]
    seen: list[Blob] = []
    assert await site.move(A_TO_B, seen.append) == MoveReport(moved=20)
    assert sorted(blob.id for blob in seen) == sorted(one.blob.id for one in uploaded)
    assert set(site.b.objects) == set(site.a.objects) == keys(*uploaded)
    assert {site.b.media_types[key] for key in site.b.objects} == {"image/jpeg"}
    await site.work()
    assert set(site.a.objects) == keys(*uploaded)
    await site.finish()
    assert site.a.objects == {}
    assert await site.owed() == []
    for number, old in enumerate(views):
        assert old is not None
        assert old.shard == "a"
        new = await site.database.queries.find(old.id)
        assert new is not None
        assert new.shard == "b"
        for view in (old, new):
            assert await site.content(view) == b"picture %d" % number
    assert await site.move(A_TO_B) == MoveReport()


@pytest.mark.parametrize(
    ("source", "target", "why"),
    [
        ("a", "nowhere", "no store 'nowhere'.*'b', 'a'"),
        ("nowhere", "b", "no store 'nowhere'"),
        ("a", "a", "to itself"),
        ("b", "a", "first entry.*never be empty.*'a' first"),
    ],
)
async def test_what_can_never_end_well_is_refused(site: Site, source: str, target: str, why: str) -> None:
    with pytest.raises(MoveRefused, match=why):
        await site.move(MoveCommand(source, target))


async def test_two_names_of_one_place_are_noticed(site: Site) -> None:
    await site.take(b"picture")
    site.b.objects, site.b.modified = site.a.objects, site.a.modified
    with pytest.raises(MoveRefused, match="same place"):
        await site.move(A_TO_B)
    assert len(site.a.objects) == 1
    assert await site.owed() == []


async def test_damaged_and_missing_objects_are_told_and_the_rest_is_moved(site: Site) -> None:
    good, damaged, missing = [await site.take(content) for content in (b"good", b"damaged", b"missing")]
    [key] = keys(damaged)
    site.a.objects[key] = b"DAMAGED"
    del site.a.objects[blob_key(missing.blob.id)]
    report = await site.move(A_TO_B)
    assert report == MoveReport(moved=1, missing=[missing.blob.id], corrupt=[damaged.blob.id])
    assert set(site.b.objects) == keys(good)
    await site.finish()
    assert site.a.objects == {key: b"DAMAGED"}


async def test_a_copy_that_reads_back_otherwise_is_not_trusted(site: Site) -> None:
    uploaded = await site.take(b"picture")

    async def damage() -> None:
        site.b.objects[blob_key(uploaded.blob.id)] = b"PICTURE"

    site.b.after_put = damage
    with pytest.raises(StorageUnavailable, match=r"'b'.*does not give back"):
        await site.move(A_TO_B)
    assert (await site.move(A_TO_B)).moved == 1
    assert site.b.objects[blob_key(uploaded.blob.id)] == b"picture"


@pytest.mark.parametrize("name", ["a", "b"])
async def test_a_store_that_is_away_is_named_and_nothing_is_lost(site: Site, name: str) -> None:
    uploaded = [await site.take(b"picture %d" % number) for number in range(8)]
    store = site.a if name == "a" else site.b

    async def fail() -> None:
        store.fail_with = StorageUnavailable("The image store is full.")

    site.b.after_put = fail
    with pytest.raises(StorageUnavailable, match=f"'{name}': The image store is full. Nothing is lost"):
        await site.move(A_TO_B)
    store.fail_with = None
    assert set(site.a.objects) == keys(*uploaded)
    await site.move(A_TO_B)
    await site.finish()
    assert (set(site.b.objects), site.a.objects) == (keys(*uploaded), {})


async def test_a_move_that_was_cut_off_is_taken_up_again(site: Site) -> None:
    uploaded = [await site.take(b"picture %d" % number) for number in range(8)]
    reached = asyncio.Event()

    async def hang() -> None:
        reached.set()
        await asyncio.Event().wait()

    site.b.after_put = hang
    moving = asyncio.create_task(site.move(A_TO_B))
    await reached.wait()
    moving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await moving
    await site.move(A_TO_B)
    await site.finish()
    assert (set(site.b.objects), site.a.objects) == (keys(*uploaded), {})


async def test_a_copy_left_by_a_cut_off_move_is_a_stray_that_goes_by_reconciling(site: Site) -> None:
    uploaded = await site.take(b"picture")
    key = blob_key(uploaded.blob.id)
    await site.b.put(key, [b"picture"], 7)
    hour = timedelta(hours=1)
    assert (await site.reconcile(ReconcileCommand(hour))).strays == 0
    assert isinstance(site.clock, FakeClock)
    site.clock.advance(hours=2)
    assert (await site.reconcile(ReconcileCommand(hour))).strays == 1
    assert await site.owed() == []
    report = await site.reconcile(ReconcileCommand(hour, apply=True))
    assert (report.strays, report.orphans, report.missing) == (1, 0, [])
    assert await site.owed() == [(uploaded.blob.id, "b")]
    assert (await site.reconcile(ReconcileCommand(hour, apply=True))).strays == 0
    # While its removal is owed no move may make it the object.
    assert await site.move(A_TO_B) == MoveReport(waiting=[uploaded.blob.id])
    await site.finish()
    assert (set(site.a.objects), site.b.objects) == ({key}, {})
    assert (await site.move(A_TO_B)).moved == 1


async def test_an_old_copy_that_is_yet_to_go_is_neither_orphan_nor_stray(site: Site) -> None:
    await site.take(b"picture")
    await site.move(A_TO_B)
    assert isinstance(site.clock, FakeClock)
    site.clock.advance(hours=2)
    report = await site.reconcile(ReconcileCommand(timedelta(hours=1), apply=True))
    assert (report.objects, report.orphans, report.strays, report.missing) == (2, 0, 0, [])
    assert len(site.a.objects) == 1


async def test_reconciling_looks_for_an_object_where_it_was_moved_meanwhile(site: Site) -> None:
    uploaded = await site.take(b"picture")
    looked = site.a.stat

    async def move_first(key: str) -> object:
        site.a.stat = looked  # type: ignore[method-assign] # once
        await site.move(A_TO_B)
        await site.finish()
        return await looked(key)

    site.a.stat = move_first  # type: ignore[method-assign,assignment] # the race itself
    assert (await site.reconcile(ReconcileCommand(timedelta(hours=1)))).missing == []
    assert set(site.b.objects) == keys(uploaded)


async def test_what_was_moved_lately_cannot_be_moved_back_until_its_old_copy_is_gone(site: Site) -> None:
    uploaded = await site.take(b"picture")
    await site.move(A_TO_B)
    assert await site.move_back(MoveCommand("b", "a")) == MoveReport(waiting=[uploaded.blob.id])
    await site.finish()
    assert (await site.move_back(MoveCommand("b", "a"))).moved == 1
    await site.finish()
    assert (set(site.a.objects), site.b.objects) == (keys(uploaded), {})


async def test_an_image_deleted_while_it_is_copied_leaves_nothing(site: Site) -> None:
    uploaded, other = await site.take(b"picture"), await site.take(b"other")

    async def delete() -> None:
        await site.take_away(uploaded)

    site.b.after_put = delete
    assert (await site.move(A_TO_B)).moved in {1, 2}
    await site.take_away(other)
    await site.finish()
    assert (site.a.objects, site.b.objects) == ({}, {})


@pytest.mark.parametrize("gone", [False, True], ids=["dying", "gone"])
async def test_an_image_deleted_before_the_commit_takes_the_copy_with_it(site: Site, *, gone: bool) -> None:
    uploaded = await site.take(b"picture")

    async def delete() -> None:
        await site.take_away(uploaded)
        if gone:
            await site.work()

    site.b.after_put = delete
    assert await site.move(A_TO_B) == MoveReport()
    await site.finish()
    assert (site.a.objects, site.b.objects) == ({}, {})


async def test_a_copy_that_took_too_long_is_made_again(site: Site) -> None:
    await site.take(b"picture")
    puts = 0
    clock = site.clock
    assert isinstance(clock, FakeClock)

    async def dawdle() -> None:
        nonlocal puts
        puts += 1
        clock.advance(hours=1)
        site.b.after_put = dawdle if puts < 3 else None

    site.b.after_put = dawdle
    assert (await site.move(A_TO_B)).moved == 1
    assert puts == 3
    assert len(await site.owed()) == 1


@pytest.mark.parametrize("settings", [Settings(), Settings(metadata_cache_seconds=0, send_seconds=1)])
async def test_a_copy_can_be_committed_for_half_as_long_as_a_removal_waits(settings: Settings) -> None:
    """That wait counts from the beginning of a transaction that may end seconds later."""
    container = make_container(settings)
    rules = await container.get(CopyRules)
    assert 2 * rules.longest_copy <= rules.drop_after
    assert 2 * rules.longest_copy <= timedelta(seconds=settings.reconcile_grace_seconds)
    await container.close()


async def test_a_copy_that_is_to_go_by_the_time_of_its_commit_is_not_committed(site: Site) -> None:
    uploaded = await site.take(b"picture")

    async def condemn() -> None:
        for _ in range(2):
            async with site.database.transactions.begin() as transaction:
                await transaction.blobs.lock(uploaded.blob.id)
                await owe_drop(transaction, uploaded.blob.id, "b", COPIES)
                await transaction.commit()

    site.b.after_put = condemn
    assert await site.move(A_TO_B) == MoveReport(waiting=[uploaded.blob.id])
    assert await site.owed() == [(uploaded.blob.id, "b")]
    await site.finish()
    assert (set(site.a.objects), site.b.objects) == (keys(uploaded), {})


async def test_what_is_uploaded_to_the_source_meanwhile_is_moved_too(site: Site) -> None:
    uploaded = [await site.take(b"picture")]

    async def upload() -> None:
        uploaded.append(await site.take(b"late"))

    site.b.after_put = upload
    assert (await site.move(A_TO_B)).moved == 2
    assert set(site.b.objects) == keys(*uploaded)


async def test_two_moves_at_once_do_each_blob_once(site: Site) -> None:
    uploaded = [await site.take(b"picture %d" % number) for number in range(30)]
    await asyncio.gather(site.move(A_TO_B), site.move(A_TO_B), site.move(A_TO_B))
    assert sorted(await site.owed()) == sorted((one.blob.id, "a") for one in uploaded)
    await site.finish()
    assert (set(site.b.objects), site.a.objects) == (keys(*uploaded), {})


async def test_an_upload_of_the_same_content_that_finds_its_object_moved_away_leaves_no_copy(
    site: Site,
) -> None:
    """It reads the row, the object is moved and its old copy gone, and it puts it back in vain."""
    first = await site.take(b"picture")
    look = site.a.stat

    async def moved_meanwhile(key: str) -> object:
        site.a.stat = look  # type: ignore[method-assign] # once
        await site.move(A_TO_B)
        await site.finish()
        return await look(key)

    site.a.stat = moved_meanwhile  # type: ignore[method-assign,assignment] # the race itself
    second = await site.take(b"picture")
    assert (second.blob.id, second.blob.shard) == (first.blob.id, "b")
    assert await site.owed() == [(first.blob.id, "a")]
    await site.finish()
    assert (set(site.b.objects), site.a.objects) == (keys(first), {})


async def test_the_last_whole_copy_is_never_dropped(site: Site) -> None:
    uploaded = await site.take(b"picture")
    await site.move(A_TO_B)
    [key] = keys(uploaded)
    site.b.objects[key] = b"pic"
    with pytest.raises(LastCopy):
        await site.finish()
    assert site.a.objects == {key: b"picture"}
    assert len(await site.owed()) == 1


async def test_a_removal_that_the_row_does_not_bear_out_does_nothing(site: Site) -> None:
    uploaded = await site.take(b"picture")
    async with site.database.transactions.begin() as transaction:
        payload = {BLOB_ID: str(uploaded.blob.id), SHARD: "a"}
        await transaction.outbox.add(DROP_COPY, payload)
        await transaction.commit()
    await site.work()
    assert set(site.a.objects) == keys(uploaded)
    assert await site.owed() == []


async def test_a_reader_with_an_old_view_finds_the_object_or_hears_that_it_is_gone(site: Site) -> None:
    uploaded = await site.take(b"picture")
    old = view_of(uploaded.image, uploaded.blob)
    await site.move(A_TO_B)
    await site.finish()
    assert await site.content(old) == b"picture"
    del site.b.objects[blob_key(uploaded.blob.id)]
    with pytest.raises(StorageUnavailable, match="missing"):
        await site.files.open(original(old))
    await site.take_away(uploaded)
    await site.finish()
    with pytest.raises(ImageNotFound):
        await site.files.open(original(old))


async def test_a_reader_whose_view_names_a_dropped_entry_finds_the_object(site: Site) -> None:
    uploaded = await site.take(b"picture")
    old = view_of(uploaded.image, uploaded.blob)
    await site.move(A_TO_B)
    files = ObjectImageFiles(ObjectStores([site.b]), PostgresBlobPlaces(site.database.reader))
    opened = await files.open(original(old))
    assert await opened.read(0, 7) == b"picture"


@pytest.fixture
async def behind(new_url: NewUrl, tmp_path: Path) -> AsyncIterator[tuple[Site, Proxy]]:
    async with Proxy(await new_url()) as proxy:
        database = await Database.open(proxy.url)
        yield Site(database, tmp_path), proxy
        await database.aclose()


async def test_a_lost_answer_to_the_commit_is_found_out(behind: tuple[Site, Proxy]) -> None:
    site, proxy = behind
    uploaded = await site.take(b"picture")

    async def lose() -> None:
        proxy.mode = Mode.LOSE_COMMIT_ANSWER

    site.b.after_put = lose
    # It only looks after that, so nothing else is lost.
    report = await site.move(A_TO_B)
    assert proxy.mode is Mode.LOSE_COMMIT_ANSWER
    proxy.mode = Mode.PASS
    assert report.moved == 1
    await site.finish()
    assert (set(site.b.objects), site.a.objects) == (keys(uploaded), {})


async def test_moving_to_and_fro_under_uploads_and_deletes_loses_nothing_and_leaves_nothing(
    database: Database, tmp_path: Path
) -> None:
    short = timedelta(milliseconds=300)
    site = Site(database, tmp_path, CopyRules(drop_after=short, longest_copy=short / 2), SystemClock())
    contents = [bytes([number]) * 10 for number in range(4)]
    ended = asyncio.Event()

    async def keep_moving() -> None:
        while not ended.is_set():
            await site.move(A_TO_B)
            await site.move_back(MoveCommand("b", "a"))
            await asyncio.sleep(0.02)

    async def keep_working() -> None:
        while not ended.is_set():
            await site.work()
            await asyncio.sleep(0.01)

    async def come_and_go(number: int) -> UploadedImage | None:
        uploaded = await site.take(contents[number % len(contents)])
        if number % 7 == 0:
            return uploaded
        await site.take_away(uploaded)
        return None

    beside = [asyncio.create_task(keep_moving()), asyncio.create_task(keep_working())]
    staying: list[UploadedImage] = []
    try:
        for _ in range(8):
            staying += [one for one in await asyncio.gather(*map(come_and_go, range(12))) if one]
            for one in staying:
                view = await database.queries.find(one.image.id)
                assert view is not None
                assert await site.content(view) in contents
    finally:
        ended.set()
        await asyncio.gather(*beside)
    await site.finish()
    live = {blob.id: blob async for blob in database.catalogue.live()}
    stored = {(key, store.name) for store in (site.a, site.b) for key in store.objects}
    assert stored == {(blob_key(blob.id), blob.shard) for blob in live.values()}
    assert {one.blob.id for one in staying} <= set(live)
    assert await site.owed() == []

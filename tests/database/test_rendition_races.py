"""Uploads, deletes, moves and the making of renditions at once, on a real database and real stores."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import update

from chitram.accounts.public import ANONYMOUS
from chitram.images.adapters.blob_store import ObjectBlobStore
from chitram.images.domain.keys import blob_key, rendition_name, renditions_prefix
from chitram.images.domain.rendition import (
    THUMBNAIL_SIDES,
    THUMBNAILS_RECIPE,
    Rendition,
    RenditionKind,
    RenditionSort,
    recipe_of,
)
from chitram.images.domain.work import (
    BLOB_ID,
    CLEAR_RENDITIONS,
    DELETE_BLOB,
    DROP_COPY,
    DROP_RENDITIONS,
    MAKE_RENDITIONS,
    NAMES,
    OPTIMISE,
    PURGE_IMAGE,
    REMAKE_RENDITIONS,
    REOPTIMISE,
    SHARD,
)
from chitram.images.use_cases.delete_blob import DeleteBlob, DeleteBlobCommand
from chitram.images.use_cases.delete_image import DeleteCommand, DeleteImage
from chitram.images.use_cases.drop_copy import DropCopy, DropCopyCommand
from chitram.images.use_cases.drop_renditions import DropRenditions, DropRenditionsCommand
from chitram.images.use_cases.make_renditions import MakeRenditions
from chitram.images.use_cases.move_blobs import MoveBlobs, MoveCommand
from chitram.images.use_cases.optimise import Optimise
from chitram.images.use_cases.reconcile_store import ReconcileCommand, ReconcileStore
from chitram.images.use_cases.renditions import RenditionCommand, RenditionKeeper
from chitram.images.use_cases.upload_image import UploadCommand, UploadedImage, UploadImage, UploadRules
from chitram.kernel.errors import StorageUnavailable
from chitram.kernel.ids import new_id
from chitram.platform.objects.local import LocalStore
from chitram.platform.objects.registry import ObjectStores
from chitram.platform.outbox import OutboxEntry, OutboxRow
from tests.support.database import Database
from tests.support.fakes import (
    COPIES,
    FakeAuditLog,
    FakeCaches,
    FakeClock,
    FakeInspector,
    FakeQuotas,
    FakeReceived,
)
from tests.support.rendering import FakeDamage, FakeRenderer, made_of

RULES = UploadRules(delete_token_life=None, newest_commit=timedelta(minutes=30), copies=COPIES)
KINDS = [CLEAR_RENDITIONS, DELETE_BLOB, DROP_COPY, DROP_RENDITIONS, MAKE_RENDITIONS, OPTIMISE]


class RacyBlobStore(ObjectBlobStore):
    """Takes other turns than its caller asked for, and may end its caller right after a put."""

    chance = random.Random(7)  # noqa: S311 - not for secrets
    deadly = 0.0

    async def put_rendition(self, rendition: Rendition, shard: str, content: bytes) -> None:
        await asyncio.sleep(self.chance.random() / 100)
        await super().put_rendition(rendition, shard, content)
        if self.chance.random() < self.deadly:
            raise asyncio.CancelledError

    async def put_renditions(self, shard: str, made: Mapping[Rendition, bytes]) -> None:
        await asyncio.gather(*(self.put_rendition(each, shard, content) for each, content in made.items()))


class Site:
    """Two folders, of which a takes what is new, and everything that works on them."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database = database
        self.folder = folder
        self.stores = {name: LocalStore(name, folder / name) for name in "ab"}
        self.clock, self.renderer, caches = FakeClock(), FakeRenderer(), FakeCaches()
        self.blobs = RacyBlobStore(ObjectStores([*self.stores.values()]), folder)
        after = RacyBlobStore(ObjectStores([*self.stores.values()][::-1]), folder)
        begin = database.transactions
        keeper = RenditionKeeper(begin, self.blobs, caches, self.clock, FakeDamage(), COPIES)
        self.upload = UploadImage(begin, self.blobs, FakeInspector(), FakeQuotas(), self.clock, RULES)
        self.delete = DeleteImage(begin, caches, FakeQuotas(), FakeAuditLog(), self.clock)
        self.make = MakeRenditions(keeper, self.renderer)
        self.optimise = Optimise(keeper, self.renderer)
        self.delete_blob = DeleteBlob(begin, self.blobs)
        self.drop_copy = DropCopy(begin, self.blobs)
        self.drop_renditions = DropRenditions(begin, self.blobs)
        self.move = MoveBlobs(begin, database.catalogue, after, self.clock, COPIES)
        self.reconcile = ReconcileStore(begin, database.catalogue, self.blobs, self.clock, COPIES)

    async def take(self, content: bytes) -> UploadedImage:
        with FakeReceived(content) as received:
            return await self.upload(UploadCommand(received=received, principal=ANONYMOUS))

    async def take_away(self, uploaded: UploadedImage) -> None:
        await self.delete(DeleteCommand(uploaded.image.id, ANONYMOUS, uploaded.delete_token))

    async def run(self, entry: OutboxEntry) -> None:
        payload = entry.payload
        blob_id = UUID(payload[BLOB_ID])
        match entry.kind:
            case "blob.renditions" | "blob.remake":
                await self.make(RenditionCommand(entry.id, blob_id))
            case "blob.optimise" | "blob.reoptimise":
                await self.optimise(RenditionCommand(entry.id, blob_id))
            case "blob.delete":
                await self.delete_blob(DeleteBlobCommand(entry.id, blob_id))
            case "blob.drop_copy":
                await self.drop_copy(DropCopyCommand(entry.id, blob_id, payload[SHARD]))
            case _:
                names = payload[NAMES].split() if NAMES in payload else None
                await self.drop_renditions(DropRenditionsCommand(entry.id, blob_id, payload[SHARD], names))

    async def work(self, kinds: list[str] = KINDS) -> int:
        """Do what is due, each entry twice at once; how much there was."""
        async with self.database.transactions.begin() as transaction:
            due = await transaction.outbox.due(kinds, 1000)
        runs = [self.run(entry) for entry in due for _ in range(2)]
        for outcome in await asyncio.gather(*runs, return_exceptions=True):
            if outcome and not isinstance(outcome, (asyncio.CancelledError, StorageUnavailable)):
                raise outcome
        return len(runs)

    async def finish(self) -> None:
        """Let all time pass that work waits for, until there is none."""
        self.blobs.deadly = 0
        await self.pass_time()
        while await self.work():
            await self.pass_time()

    async def pass_time(self) -> None:
        async with self.database.transactions.begin() as transaction:
            await transaction.session.execute(update(OutboxRow).values(run_after=OutboxRow.created_at))
            await transaction.commit()

    async def owed(self) -> list[str]:
        async with self.database.reader.connection() as connection:
            rows = await connection.fetch("SELECT kind FROM outbox WHERE kind <> $1", PURGE_IMAGE)
        return sorted(row["kind"] for row in rows)

    async def waiting_for_locks(self) -> int:
        async with self.database.reader.connection() as connection:
            count: int = await connection.fetchval(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
        return count

    def files(self, name: str = "a") -> set[str]:
        root = self.folder / name
        return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}

    def complete(self, *blob_ids: UUID) -> set[str]:
        """Keys of all objects of blobs that are ready and optimised."""
        names = [rendition_name(kind, recipe_of(kind)) for kind in (*THUMBNAIL_SIDES, *self.renderer.worth)]
        made = {f"{renditions_prefix(blob_id)}{name}" for blob_id in blob_ids for name in names}
        return made | set(map(blob_key, blob_ids))


@pytest.fixture
async def site(database: Database, tmp_path: Path) -> AsyncIterator[Site]:
    made = Site(database, tmp_path)
    for store in made.stores.values():
        await store.start()
    yield made
    for store in made.stores.values():
        await store.aclose()


async def test_renditions_are_made_once_however_many_workers_try(site: Site) -> None:
    uploaded = await site.take(b"picture")
    await asyncio.gather(site.work([MAKE_RENDITIONS]), site.work([MAKE_RENDITIONS]))
    await site.finish()
    assert site.files() == site.complete(uploaded.blob.id)
    view = await site.database.queries.find(uploaded.image.id)
    assert view is not None
    assert (view.processing, view.optimised, len(view.renditions)) == ("ready", True, 5)
    assert await site.owed() == []


@pytest.mark.parametrize("deadly", [0.0, 0.3], ids=["alive", "dying"])
async def test_uploads_deletes_and_workers_at_once_lose_nothing_and_leave_nothing(
    site: Site, *, deadly: float
) -> None:
    site.blobs.deadly = deadly
    contents = [bytes([number]) * 10 for number in range(3)]

    async def come_and_go(content: bytes, *, stay: bool) -> UploadedImage | None:
        uploaded = await site.take(content)
        await asyncio.sleep(random.random() / 50)  # noqa: S311 - to meet the workers anywhere
        if stay:
            return uploaded
        await site.take_away(uploaded)
        return None

    staying: list[UploadedImage] = []
    for round_number in range(5):
        results = await asyncio.gather(
            *(
                come_and_go(content, stay=number == round_number)
                for number in range(3)
                for content in contents
            ),
            *(site.work() for _ in range(3)),
        )
        staying += [result for result in results if isinstance(result, UploadedImage)]
    await site.finish()
    live = {blob.id async for blob in site.database.catalogue.live()}
    assert {one.blob.id for one in staying} == live
    assert site.files() == site.complete(*live)
    assert await site.owed() == []
    folders = {path.name for path in (site.folder / "a/renditions").glob("*/*")}
    assert folders == {str(blob_id) for blob_id in live}


async def test_a_move_takes_the_renditions_along(site: Site) -> None:
    uploaded = [await site.take(b"picture %d" % number) for number in range(5)]
    await site.finish()
    assert (await site.move(MoveCommand("a", "b"))).moved == 5
    complete = site.complete(*(one.blob.id for one in uploaded))
    assert (site.files("a"), site.files("b")) == (complete, complete)
    await site.finish()
    assert (site.files("a"), site.files("b")) == (set(), complete)
    assert (await site.reconcile(ReconcileCommand(timedelta(0)))).lacking == []


async def test_a_move_has_those_made_again_that_are_lost_or_damaged(site: Site) -> None:
    uploaded = await site.take(b"picture")
    await site.finish()
    folder = site.folder / "a" / renditions_prefix(uploaded.blob.id)
    (folder / rendition_name(RenditionKind.SMALL, THUMBNAILS_RECIPE)).unlink()
    (folder / "optimised-1").write_bytes(b"damaged")
    assert (await site.move(MoveCommand("a", "b"))).moved == 1
    assert await site.owed() == [DROP_COPY, REMAKE_RENDITIONS, REOPTIMISE]
    await site.work([REMAKE_RENDITIONS, REOPTIMISE])
    await site.finish()
    assert (site.files("a"), site.files("b")) == (set(), site.complete(uploaded.blob.id))


async def test_a_blob_that_is_moved_while_renditions_are_made_has_them_where_it_is(site: Site) -> None:
    uploaded = [await site.take(b"picture %d" % number) for number in range(8)]
    _, moved = await asyncio.gather(site.work(), site.move(MoveCommand("a", "b")))
    assert moved.moved == 8
    await site.finish()
    assert (site.files("a"), site.files("b")) == (set(), site.complete(*(one.blob.id for one in uploaded)))


async def test_a_worker_that_ends_after_a_put_leaves_nothing_of_a_deleted_blob(site: Site) -> None:
    uploaded = await site.take(b"picture")
    site.blobs.deadly = 1.0
    with contextlib.suppress(asyncio.CancelledError):
        await site.work([MAKE_RENDITIONS])
    assert len(site.files()) > 1
    await site.take_away(uploaded)
    await site.work([DELETE_BLOB])
    # As if a put that was on its way had arrived late.
    late = site.folder / "a" / f"{renditions_prefix(uploaded.blob.id)}small-1"
    late.parent.mkdir(parents=True, exist_ok=True)
    late.write_bytes(b"late")
    assert await site.owed() == [CLEAR_RENDITIONS] * 2
    await site.finish()
    assert site.files() == set()
    assert await site.owed() == []


async def test_reconciling_meanwhile_takes_nothing_away(site: Site) -> None:
    uploaded = [await site.take(b"picture %d" % number) for number in range(5)]
    site.clock.advance(hours=1)
    command = ReconcileCommand(timedelta(0), apply=True)
    await asyncio.gather(site.work(), *(site.reconcile(command) for _ in range(3)))
    await site.finish()
    assert site.files() == site.complete(*(one.blob.id for one in uploaded))


async def test_recording_sees_what_was_committed_while_it_waited_for_the_blob(site: Site) -> None:
    first = await site.take(b"picture")
    image = replace(first.image, id=new_id(site.clock.now()))
    transactions = site.database.transactions
    async with transactions.begin() as other:
        await other.blobs.lock(first.blob.id)
        made = made_of(first.blob.id, RenditionSort.THUMBNAILS, shard="a")
        recording = asyncio.create_task(transactions.record_made(made))
        async with asyncio.timeout(10):
            while not await site.waiting_for_locks():
                await asyncio.sleep(0.01)
        await other.images.add(image)
        await other.commit()
    assert {image_id for image_id, _ in (await recording).touched} == {first.image.id, image.id}

"""The worker on real servers: what is owed is done, whatever the queue loses."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from pathlib import Path

import pytest
from dishka import AsyncContainer
from sqlalchemy import text

from chitram.accounts.public import ANONYMOUS
from chitram.images.entrypoints.jobs import MakeRenditionsJob
from chitram.images.use_cases.backfill_dimensions import BackfillDimensions
from chitram.images.use_cases.begin_upload import BeginUpload, BeginUploadCommand
from chitram.images.use_cases.delete_image import DeleteCommand, DeleteImage
from chitram.images.use_cases.receive_upload import ReceiveUpload, ReceiveUploadCommand
from chitram.images.use_cases.upload_image import UploadCommand, UploadedImage, UploadImage
from chitram.main import admin, rounds, worker
from chitram.main.container import make_container
from chitram.platform import schedule
from chitram.platform.settings import Settings, spool_dir
from chitram.platform.valkey import make_valkey
from tests.support.api import make_data_dir
from tests.support.database import Database
from tests.support.fakes import FakeReceived
from tests.support.photos import jpeg
from tests.support.proxy import Mode, Proxy
from tests.support.waiting import WAIT_SECONDS, until


class Site:
    """One database, one Valkey, one store, and the use cases over them."""

    def __init__(self, database: Database, settings: Settings, container: AsyncContainer) -> None:
        self.database = database
        self.settings = settings
        self.container = container

    async def take(self, content: bytes) -> UploadedImage:
        upload = await self.container.get(UploadImage)
        with FakeReceived(content) as received:
            return await upload(UploadCommand(received=received, principal=ANONYMOUS))

    async def take_away(self, uploaded: UploadedImage) -> None:
        delete = await self.container.get(DeleteImage)
        await delete(DeleteCommand(uploaded.image.id, ANONYMOUS, uploaded.delete_token))

    async def execute(self, statement: str) -> None:
        async with self.database.transactions.begin() as transaction:
            await transaction.session.execute(text(statement))
            await transaction.commit()

    def objects(self) -> list[Path]:
        folder = Path(self.settings.data_dir, "objects")
        return [path for path in folder.rglob("*") if path.is_file()]

    async def is_clean(self) -> bool:
        """Whether no object, no row and no work is left."""
        async with self.database.reader.connection() as connection:
            left = await connection.fetchval(
                "SELECT (SELECT count(*) FROM blobs) + (SELECT count(*) FROM outbox)"
                " + (SELECT count(*) FROM images)"
            )
        return not left and not self.objects()


StartWorker = Callable[[], AbstractAsyncContextManager[None]]


@pytest.fixture
async def valkey(valkey_url: str) -> AsyncIterator[Proxy]:
    """A way to a Valkey database of the test's own."""
    async with Proxy(f"{valkey_url.rstrip('/')}/7") as proxy:
        async with make_valkey(Settings(valkey_url=proxy.url)) as client:
            await client.flushdb()
        yield proxy


@pytest.fixture
async def site(database: Database, valkey: Proxy) -> AsyncIterator[Site]:
    data = make_data_dir()
    settings = Settings(
        database_url=database.url, valkey_url=valkey.url, data_dir=str(data), log_level="warning"
    )
    spool_dir(settings).mkdir()
    container = make_container(settings)
    yield Site(database, settings, container)
    await container.close()
    shutil.rmtree(data)


@pytest.fixture
def working(site: Site, monkeypatch: pytest.MonkeyPatch) -> StartWorker:
    """Run a worker for the length of a block."""
    monkeypatch.setattr(schedule, "TICK_SECONDS", 0.05)
    for name in ("SWEEP", "EXPIRE", "CLEAR"):
        monkeypatch.setattr(rounds, name, timedelta(seconds=0.1))

    @contextlib.asynccontextmanager
    async def work() -> AsyncIterator[None]:
        stop = asyncio.Event()
        running = asyncio.create_task(worker.serve(site.settings, stop))
        try:
            yield
        finally:
            stop.set()
            async with asyncio.timeout(WAIT_SECONDS):
                await running

    return work


async def test_a_delete_is_carried_out(site: Site, working: StartWorker) -> None:
    uploaded = await site.take(jpeg())
    async with working():
        await site.take_away(uploaded)
        await until(site.is_clean)


async def test_what_was_owed_before_the_worker_started_is_done(site: Site, working: StartWorker) -> None:
    await site.take_away(await site.take(jpeg()))
    async with working():
        await until(site.is_clean)


async def test_what_is_uploaded_gets_its_renditions_and_a_delete_takes_them_away(
    site: Site, working: StartWorker
) -> None:
    uploaded = await site.take(jpeg(1200, 800))

    async def finished() -> bool:
        view = await site.database.queries.find(uploaded.image.id)
        assert view is not None
        return view.processing == "ready" and view.optimised

    async with working():
        await until(finished)
        view = await site.database.queries.find(uploaded.image.id)
        assert view is not None
        made = {rendition.kind: rendition for rendition in view.renditions}
        assert [max(made[kind].width, made[kind].height) for kind in ("small", "medium", "large")] == [
            150,
            300,
            600,
        ]
        assert len(site.objects()) == 1 + len(made)
        await site.take_away(uploaded)
        await until(site.is_clean)


async def test_what_cannot_be_processed_says_so_until_an_administrator_has_it_tried_again(
    site: Site, working: StartWorker, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(MakeRenditionsJob, "attempts", 1)
    uploaded = await site.take(jpeg())
    [original] = site.objects()
    content = original.read_bytes()
    original.write_bytes(b"damaged")

    async def processed() -> str:
        view = await site.database.queries.find(uploaded.image.id)
        assert view is not None
        return view.processing

    async def failed() -> bool:
        return await processed() == "failed"

    async def ready() -> bool:
        return await processed() == "ready"

    async with working():
        await until(failed)
        original.write_bytes(content)
        while "requeued: 1" not in capsys.readouterr().out:
            await asyncio.to_thread(admin.run, site.settings, ["jobs", "--requeue"])
        await until(ready)


async def test_a_delete_that_valkey_never_heard_of_is_carried_out(
    site: Site, working: StartWorker, valkey: Proxy
) -> None:
    uploaded = await site.take(jpeg())
    valkey.mode = Mode.CUT
    await site.take_away(uploaded)
    valkey.mode = Mode.PASS
    async with working():
        await until(site.is_clean)


async def test_a_flushed_queue_loses_no_work(site: Site, working: StartWorker) -> None:
    uploaded = [await site.take(jpeg(64, 40 + number)) for number in range(10)]
    for one in uploaded[:5]:
        await site.take_away(one)
    async with make_valkey(site.settings) as client:
        await client.flushdb()

    async def done() -> bool:
        async with site.database.reader.connection() as connection:
            blobs = await connection.fetch("SELECT processing FROM blobs")
        return [row["processing"] for row in blobs] == ["ready"] * 5

    async with working():
        await until(done)


async def test_the_worker_outlives_valkey(site: Site, working: StartWorker, valkey: Proxy) -> None:
    async with working():
        await site.take_away(await site.take(jpeg(64, 48)))
        await until(site.is_clean)
        valkey.mode = Mode.CUT
        valkey.cut_all()
        await site.take_away(await site.take(jpeg(48, 64)))
        valkey.mode = Mode.PASS
        await until(site.is_clean)


async def test_expired_images_go_by_themselves(site: Site, working: StartWorker) -> None:
    await site.take(jpeg())
    await site.execute("UPDATE images SET expires_at = now() - interval '1 s'")
    async with working():
        await until(site.is_clean)


async def test_an_upload_that_is_never_completed_goes_with_its_bytes(
    site: Site, working: StartWorker
) -> None:
    begin, receive = await site.container.get(BeginUpload), await site.container.get(ReceiveUpload)
    begun = await begin(BeginUploadCommand(principal=ANONYMOUS))
    with FakeReceived(jpeg()) as received:
        await receive(ReceiveUploadCommand(begun.upload.id, received))
    assert len(site.objects()) == 1

    async def gone() -> bool:
        async with site.database.reader.connection() as connection:
            rows = await connection.fetchval("SELECT count(*) FROM uploads")
        return not rows and not site.objects()

    async with working():
        await site.execute("UPDATE uploads SET expires_at = now() - interval '1 hour'")
        await until(gone)


async def test_dimensions_of_old_images_are_filled_in(site: Site, working: StartWorker) -> None:
    uploaded = await site.take(jpeg(64, 48))
    await site.execute("UPDATE blobs SET width = NULL, height = NULL")

    async def filled() -> bool:
        view = await site.database.queries.find(uploaded.image.id)
        assert view is not None
        return (view.width, view.height) == (64, 48)

    async with working():
        await until(filled)


async def test_the_queue_keeps_nothing_of_what_is_done(site: Site, working: StartWorker) -> None:
    async with working():
        await site.take_away(await site.take(jpeg()))
        await until(site.is_clean)
    async with make_valkey(site.settings) as client:

        async def forgotten() -> bool:
            return not [key async for key in client.scan_iter("saq:*")]

        await until(forgotten)


async def test_waiting_for_valkey_costs_next_to_nothing(
    site: Site, working: StartWorker, valkey: Proxy
) -> None:
    valkey.mode = Mode.CUT
    async with working():
        # After each look at Valkey a taker waits: in a second there are a few looks, not thousands.
        looks = valkey.accepted
        ended: set[object] = set()
        while len(ended) < 8:
            async with site.database.reader.connection() as connection:
                ended.add(await connection.fetchval("SELECT done_at FROM rounds WHERE name = 'expire'"))
        assert valkey.accepted - looks < 200


@pytest.mark.parametrize("mode", [Mode.HANG, Mode.CUT])
async def test_the_worker_stops_also_without_valkey(working: StartWorker, valkey: Proxy, mode: Mode) -> None:
    async with working():
        valkey.mode = mode
        if mode is Mode.CUT:
            valkey.cut_all()
    # Leaving the block waits for the worker, for as long as the fixture allows.


async def test_a_round_that_never_ends_does_not_keep_the_worker(
    working: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, forever = asyncio.Event(), asyncio.Event()

    async def endless(self: object) -> int:
        started.set()
        await forever.wait()
        return 0

    monkeypatch.setattr(BackfillDimensions, "__call__", endless)
    async with working():
        await started.wait()

"""`chitram admin trace` and `verify` over real servers: what is left of an image, wherever it is."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from dishka import AsyncContainer

from chitram.accounts.public import ANONYMOUS
from chitram.delivery.ports import ImageReads
from chitram.images.domain.keys import blob_key, rendition_key
from chitram.images.domain.rendition import THUMBNAILS_RECIPE, RenditionKind
from chitram.images.domain.work import DELETE_BLOB, MAKE_RENDITIONS, OPTIMISE, PURGE_IMAGE
from chitram.images.use_cases.delete_image import DeleteCommand, DeleteImage
from chitram.images.use_cases.upload_image import UploadCommand, UploadedImage, UploadImage
from chitram.main import integrity, trace
from chitram.main.container import JOBS, make_container
from chitram.platform.settings import Settings, spool_dir
from chitram.platform.valkey import make_valkey
from tests.support.api import make_data_dir
from tests.support.database import Database
from tests.support.fakes import FakeReceived
from tests.support.photos import jpeg


class Site:
    """An API and a worker in one process, whose every step is taken by hand."""

    def __init__(
        self, database: Database, container: AsyncContainer, data: Path, output: pytest.CaptureFixture[str]
    ) -> None:
        self.database = database
        self.container = container
        self.objects = data / "objects"
        self._output = output

    async def take(self) -> UploadedImage:
        upload = await self.container.get(UploadImage)
        with FakeReceived(jpeg(640, 480)) as received:
            return await upload(UploadCommand(received=received, principal=ANONYMOUS))

    async def take_away(self, uploaded: UploadedImage) -> None:
        delete = await self.container.get(DeleteImage)
        await delete(DeleteCommand(uploaded.image.id, ANONYMOUS, uploaded.delete_token))

    async def read(self, uploaded: UploadedImage) -> None:
        await (await self.container.get(ImageReads)).find(uploaded.image.id)

    async def work(self, *kinds: str) -> None:
        """Do what is due of some kinds."""
        for job in [each for each in JOBS if each.kind in kinds]:
            async with self.database.transactions.begin() as transaction:
                due = await transaction.outbox.due([job.kind], 100)
            for entry in due:
                await (await self.container.get(job))(entry)

    async def trace(self, subject: UUID) -> tuple[int, list[str]]:
        """Run the command: its status, and what it said."""
        status = await trace._show(self.container, argparse.Namespace(id=subject))
        return status, self._output.readouterr().out.splitlines()

    async def verify(self, *, damaged: bool) -> tuple[int, list[str]]:
        status = await integrity._verify(self.container, argparse.Namespace(damaged=damaged))
        return status, self._output.readouterr().out.splitlines()


@pytest.fixture
async def site(
    database: Database, valkey_url: str, capsys: pytest.CaptureFixture[str]
) -> AsyncIterator[Site]:
    data = make_data_dir()
    settings = Settings(
        database_url=database.url, valkey_url=f"{valkey_url.rstrip('/')}/6", data_dir=str(data)
    )
    spool_dir(settings).mkdir()
    client = make_valkey(settings)
    await client.flushdb()
    container = make_container(settings)
    yield Site(database, container, data, capsys)
    await container.close()
    await client.aclose()
    shutil.rmtree(data)


def starts(lines: list[str]) -> list[str]:
    """How lines begin, without ids and sizes."""
    return [line.split(":")[0] for line in lines]


async def test_an_image_is_shown_with_all_that_belongs_to_it(site: Site) -> None:
    uploaded = await site.take()
    await site.work(MAKE_RENDITIONS)
    await site.read(uploaded)
    status, lines = await site.trace(uploaded.image.id)
    assert status == 0
    assert lines[0].startswith("image: unlisted, nobody's, of ")
    assert lines[1].startswith(
        f"blob: {uploaded.blob.id}, live, in local, shown by images: 1, processing: ready"
    )
    assert [line.strip() for line in lines[2:5]] == [
        f"rendition: {kind}-{THUMBNAILS_RECIPE}" for kind in ("large", "medium", "small")
    ]
    assert starts(lines[5:10]) == ["object in local"] * 4 + ["owed"]
    assert f"owed: {OPTIMISE}" in lines[9]
    # And which versions may not be shown any more, since it got its thumbnails.
    assert sorted(line.partition(",")[0] for line in lines[10:]) == [
        "cached: its metadata",
        "cached: which versions may not be shown",
    ]


async def test_a_deleted_image_is_followed_until_nothing_is_left(site: Site) -> None:
    uploaded = await site.take()
    await site.work(MAKE_RENDITIONS, OPTIMISE)
    await site.take_away(uploaded)
    status, lines = await site.trace(uploaded.image.id)
    assert status == 1
    assert {"blob", "object in local", "owed"} <= set(starts(lines))
    await site.work(DELETE_BLOB)
    status, lines = await site.trace(uploaded.image.id)
    assert (status, starts(lines)[0]) == (1, "owed")
    await site.work(PURGE_IMAGE)
    for subject in (uploaded.image.id, uploaded.blob.id):
        status, lines = await site.trace(subject)
        assert (status, lines[-1]) == (0, "nothing is left")
    assert [path for path in site.objects.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("what", ["original", "rendition"])
async def test_an_object_that_was_left_behind_is_found_by_the_id_of_its_blob(site: Site, what: str) -> None:
    blob_id = uuid4()
    key = blob_key(blob_id) if what == "original" else rendition_key(blob_id, RenditionKind.SMALL, 1)
    await site.work()
    (site.objects / key).parent.mkdir(parents=True)
    (site.objects / key).write_bytes(b"left")
    status, lines = await site.trace(blob_id)
    assert status == 1
    assert lines[0].endswith("4 bytes")
    assert lines[-1] == "left of it: 1"


async def test_what_other_images_show_is_not_left_of_a_deleted_one(site: Site) -> None:
    first, second = await site.take(), await site.take()
    await site.take_away(first)
    await site.work(PURGE_IMAGE)
    assert (await site.trace(first.image.id))[0] == 0
    status, lines = await site.trace(second.image.id)
    assert status == 0
    assert "shown by images: 1" in lines[1]
    assert (await site.trace(second.blob.id))[0] == 0


async def test_of_an_id_that_never_was_nothing_is_left(site: Site) -> None:
    assert await site.trace(uuid4()) == (0, ["nothing is left"])


async def test_damage_is_found_and_listed(site: Site) -> None:
    bad = await site.take()
    assert await site.verify(damaged=False) == (0, ["damaged: 0"])
    (site.objects / blob_key(bad.blob.id)).write_bytes(b"damaged")
    assert await site.verify(damaged=True) == (0, ["damaged: 0"])
    status, lines = await site.verify(damaged=False)
    assert status == 1
    assert lines[-2].startswith(f"blob {bad.blob.id} in local, since ")
    assert lines[-2].endswith("shown by images: 1")
    assert (await site.verify(damaged=True))[1] == lines[-2:]

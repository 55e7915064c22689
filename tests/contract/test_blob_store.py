"""What every implementation of the store of blobs does, in memory and over real object stores."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from chitram.images.adapters.blob_store import ObjectBlobStore
from chitram.images.domain.keys import renditions_prefix
from chitram.images.domain.rendition import Rendition, RenditionFormat, RenditionKind
from chitram.images.ports import BlobStore
from chitram.platform.objects.base import ObjectStore
from chitram.platform.objects.local import LocalStore
from chitram.platform.objects.registry import ObjectStores
from chitram.platform.objects.remote import RemoteStore
from tests.support.fakes import FakeBlobStore
from tests.support.object_store import MemoryStore
from tests.support.seaweed import Seaweed


@pytest.fixture(params=["fake", "memory", "local", "remote"])
async def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[BlobStore]:
    if request.param == "fake":
        yield FakeBlobStore()
        return
    store: ObjectStore
    if request.param == "memory":
        store = MemoryStore("memory")
    elif request.param == "local":
        store = LocalStore("local", tmp_path / "objects")
    else:
        server: Seaweed = request.getfixturevalue("seaweed")
        server.clear()
        store = RemoteStore("remote", server.bucket)
    await store.start()
    yield ObjectBlobStore(ObjectStores([store]), tmp_path)
    await store.aclose()


def a_rendition(blob_id: UUID, kind: RenditionKind = RenditionKind.SMALL, recipe: int = 1) -> Rendition:
    return Rendition(
        blob_id=blob_id,
        kind=kind,
        recipe=recipe,
        format=RenditionFormat.WEBP,
        width=4,
        height=3,
        byte_size=5,
        sha256=hashlib.sha256(b"small").digest(),
        created_at=datetime.now(UTC),
    )


async def keep(blobs: BlobStore, blob_id: UUID, *renditions: Rendition) -> None:
    await blobs.put(blob_id, blobs.shard, [b"pic", b"ture"], 7, "image/png")
    for rendition in renditions:
        await blobs.put_rendition(rendition, blobs.shard, b"small")


async def test_a_rendition_is_read_as_it_was_put(blobs: BlobStore) -> None:
    small, large = (a_rendition(blob_id := uuid4()), a_rendition(blob_id, RenditionKind.LARGE))
    await keep(blobs, blob_id, small)
    assert await blobs.read_rendition(small, blobs.shard) == b"small"
    assert await blobs.read_rendition(large, blobs.shard) is None
    await blobs.put_rendition(small, blobs.shard, b"smaller")
    assert await blobs.read_rendition(small, blobs.shard) == b"smaller"
    assert await blobs.size(blob_id, blobs.shard) == 7


async def test_renditions_of_every_recipe_are_listed_and_removed_one_by_one(blobs: BlobStore) -> None:
    blob_id, other = uuid4(), uuid4()
    old, new = a_rendition(blob_id), a_rendition(blob_id, recipe=2)
    await keep(blobs, blob_id, old, new)
    await keep(blobs, other, a_rendition(other))
    assert await blobs.renditions(blob_id, blobs.shard) == {"small-1": 5, "small-2": 5}
    for _ in range(2):
        await blobs.delete_rendition(blob_id, "small-1", blobs.shard)
    assert await blobs.renditions(blob_id, blobs.shard) == {"small-2": 5}
    assert await blobs.renditions(uuid4(), blobs.shard) == {}


async def test_removing_a_blob_removes_its_renditions_whatever_they_are_and_no_others(
    blobs: BlobStore,
) -> None:
    blob_id, other = uuid4(), uuid4()
    await keep(blobs, blob_id, a_rendition(blob_id), a_rendition(blob_id, recipe=9))
    await keep(blobs, other, a_rendition(other))
    for _ in range(2):
        await blobs.delete(blob_id, blobs.shard)
    assert await blobs.size(blob_id, blobs.shard) is None
    assert await blobs.renditions(blob_id, blobs.shard) == {}
    assert await blobs.size(other, blobs.shard) == 7
    assert await blobs.renditions(other, blobs.shard) == {"small-1": 5}


async def test_renditions_go_also_when_the_original_is_gone_already(blobs: BlobStore) -> None:
    rendition = a_rendition(blob_id := uuid4())
    await blobs.put_rendition(rendition, blobs.shard, b"small")
    await blobs.delete(blob_id, blobs.shard)
    assert await blobs.renditions(blob_id, blobs.shard) == {}


async def test_a_listing_tells_originals_and_renditions_apart(blobs: BlobStore) -> None:
    rendition = a_rendition(blob_id := uuid4())
    await keep(blobs, blob_id, rendition)
    listed = [found async for found in blobs.list()]
    assert {(found.blob_id, found.shard, found.size, found.rendition) for found in listed} == {
        (blob_id, blobs.shard, 7, None),
        (blob_id, blobs.shard, 5, "small-1"),
    }


async def test_what_is_not_ours_is_not_listed(tmp_path: Path) -> None:
    store = MemoryStore()
    blob_id = uuid4()
    wrong = renditions_prefix(blob_id).replace(f"/{str(blob_id)[-2:]}/", "/zz/")
    for key in ("renditions/readme", f"{wrong}small-1", "quarantine/1", "somebody/else"):
        await store.put(key, [b"x"], 1)
    assert [found async for found in ObjectBlobStore(ObjectStores([store]), tmp_path).list()] == []


async def test_an_original_is_fetched_whole(blobs: BlobStore) -> None:
    await keep(blobs, blob_id := uuid4())
    async with blobs.fetch(blob_id, blobs.shard) as received:
        assert (received.size, received.sha256) == (7, hashlib.sha256(b"picture").digest())
    with pytest.raises(LookupError):
        async with blobs.fetch(uuid4(), blobs.shard):
            pass

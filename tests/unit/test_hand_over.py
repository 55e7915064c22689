"""Which files are handed over to whom, and on what terms."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import httpx
import pytest

from chitram.delivery.adapters.hand_over import SENDERS
from chitram.delivery.ports import SentByProxy, SentByStore
from chitram.delivery.representations import Representation
from chitram.images.public import blob_key
from chitram.kernel.errors import StorageUnavailable
from chitram.platform.objects.local import LocalStore
from chitram.platform.objects.registry import ObjectStores
from chitram.platform.objects.remote import RemoteStore
from tests.support.seaweed import bucket_at

BLOB = UUID("01a2049b-0efd-759e-a7ae-d831fb53e737")
CONTENT = b"a picture"


def object_in(shard: str) -> Representation:
    return Representation(
        blob_id=BLOB,
        shard=shard,
        key=blob_key(BLOB),
        media_type="image/jpeg",
        size=len(CONTENT),
        checksum="00" * 32,
        last_modified=datetime.now(UTC),
        filename="photo.jpg",
    )


@pytest.fixture
async def stores(tmp_path: Path) -> AsyncIterator[ObjectStores]:
    """A local store with the object, and a remote one whose server is down."""
    local = LocalStore("disk", tmp_path / "objects")
    stores = ObjectStores([local, RemoteStore("remote", bucket_at("http://127.0.0.1:1"))])
    await local.start()
    await local.put(blob_key(BLOB), [CONTENT], len(CONTENT))
    yield stores
    await stores.aclose()


@pytest.mark.parametrize("mode", ["app", "accel", "redirect"])
async def test_what_is_said_to_be_in_a_dropped_entry_is_for_this_server_to_find(
    stores: ObjectStores, mode: str
) -> None:
    assert await SENDERS[mode](stores).hand_over(object_in("dropped"), None) is None


@pytest.mark.parametrize("shard", ["disk", "remote"])
async def test_this_server_hands_nothing_over(stores: ObjectStores, shard: str) -> None:
    assert await SENDERS["app"](stores).hand_over(object_in(shard), None) is None


async def test_the_proxy_gets_the_files_of_local_stores_alone(stores: ObjectStores) -> None:
    proxy = SENDERS["accel"](stores)
    path = f"/_chitram/disk/blobs/37/{BLOB}"
    assert await proxy.hand_over(object_in("disk"), None) == SentByProxy(path)
    assert await proxy.hand_over(object_in("remote"), None) is None


async def test_the_proxy_gets_no_file_that_is_missing_or_not_whole(stores: ObjectStores) -> None:
    proxy = SENDERS["accel"](stores)
    await stores.primary.put(blob_key(BLOB), [b"half"], 4)
    with pytest.raises(StorageUnavailable):
        await proxy.hand_over(object_in("disk"), None)
    await stores.primary.delete(blob_key(BLOB))
    # It may have been moved, so this server looks for it.
    assert await proxy.hand_over(object_in("disk"), None) is None


async def test_files_of_local_stores_have_no_address_to_redirect_to(stores: ObjectStores) -> None:
    assert await SENDERS["redirect"](stores).hand_over(object_in("disk"), None) is None


@pytest.mark.parametrize(("open_for", "seconds"), [(None, 60), (3600, 60), (60, 60), (59, 59), (1, 1)])
async def test_an_address_at_the_store_lasts_a_minute_or_less(
    stores: ObjectStores, open_for: int | None, seconds: int
) -> None:
    handed = await SENDERS["redirect"](stores).hand_over(object_in("remote"), open_for)
    assert isinstance(handed, SentByStore)
    assert httpx.URL(handed.url).path == f"/pictures/{blob_key(BLOB)}"
    assert httpx.URL(handed.url).params["X-Amz-Expires"] == str(seconds)


@pytest.mark.parametrize("open_for", [0, -1])
async def test_there_is_no_address_for_less_than_a_second(stores: ObjectStores, open_for: int) -> None:
    assert await SENDERS["redirect"](stores).hand_over(object_in("remote"), open_for) is None

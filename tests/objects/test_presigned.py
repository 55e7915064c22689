"""Addresses of a remote store that work for a while for whoever has them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import replace

import httpx
import pytest

from chitram.platform.objects.remote import RemoteStore
from tests.support.seaweed import Seaweed

KEY = "blobs/0f/a-picture"


@pytest.fixture
async def store(seaweed: Seaweed) -> AsyncIterator[RemoteStore]:
    seaweed.clear()
    store = RemoteStore("primary", seaweed.bucket)
    await store.start()
    yield store
    await store.aclose()


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient() as client:
        yield client


async def test_what_is_put_at_an_address_can_be_had_at_another(
    store: RemoteStore, client: httpx.AsyncClient
) -> None:
    put = await client.put(await store.presign("PUT", KEY, 60), content=b"a picture")
    assert put.status_code == 200, put.text
    got = await client.get(await store.presign("GET", KEY, 60), headers={"range": "bytes=2-"})
    assert (got.status_code, got.content) == (206, b"picture")


async def test_an_address_is_for_its_method_and_key_alone(
    store: RemoteStore, client: httpx.AsyncClient
) -> None:
    await store.put(KEY, [b"a picture"], 9)
    to_put, to_get = await store.presign("PUT", KEY, 60), await store.presign("GET", KEY, 60)
    other = to_get.replace("a-picture", "b-picture")
    refused = (
        await client.get(to_put),
        await client.put(to_get, content=b"x"),
        await client.delete(to_put),
        await client.get(other),
        await client.get(to_get.partition("?")[0]),
    )
    assert [answer.status_code for answer in refused] == [403] * 5


async def test_an_address_ends_with_its_time(store: RemoteStore, client: httpx.AsyncClient) -> None:
    await store.put(KEY, [b"a picture"], 9)
    address = await store.presign("GET", KEY, 1)
    assert (await client.get(address)).status_code == 200
    deadline = time.monotonic() + 10
    while (await client.get(address)).status_code != 403:
        assert time.monotonic() < deadline


async def test_what_is_had_at_an_address_is_kept_by_nobody(
    store: RemoteStore, client: httpx.AsyncClient
) -> None:
    await store.put(KEY, [b"a picture"], 9)
    answer = await client.get(await store.presign("GET", KEY, 60))
    assert answer.headers["cache-control"] == "private, no-store"


async def test_an_object_has_the_media_type_it_was_put_as(
    store: RemoteStore, client: httpx.AsyncClient
) -> None:
    for number, size in enumerate((9, 9 * 1024 * 1024)):
        await store.put(f"{KEY}-{number}", [bytes(size)], size, "image/png")
        answer = await client.get(await store.presign("GET", f"{KEY}-{number}", 60))
        assert answer.headers["content-type"] == "image/png"


async def test_an_address_names_the_server_as_clients_reach_it(
    seaweed: Seaweed, client: httpx.AsyncClient
) -> None:
    """Reached by another name, whose host the signature holds."""
    public = seaweed.endpoint.replace("127.0.0.1", "localhost")
    store = RemoteStore("primary", replace(seaweed.bucket, public=public))
    await store.start()
    await store.put(KEY, [b"a picture"], 9)
    address = await store.presign("GET", KEY, 60)
    assert address.startswith(f"{public}/pictures/{KEY}?")
    assert (await client.get(address.replace("localhost", "127.0.0.1"))).status_code == 403
    host = {"host": httpx.URL(public).netloc.decode()}
    there = await client.get(address.replace("localhost", "127.0.0.1"), headers=host)
    assert there.content == b"a picture"
    await store.aclose()


async def test_an_address_is_made_while_the_server_is_down(seaweed: Seaweed) -> None:
    store = RemoteStore("primary", replace(seaweed.bucket, endpoint="http://127.0.0.1:1"))
    assert "X-Amz-Signature=" in await store.presign("GET", KEY, 60)
    await store.aclose()

"""What every object store does: in memory, in a directory, on an S3-compatible server."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from chitram.kernel.errors import StorageUnavailable
from chitram.platform.objects.base import ObjectNotFound, ObjectStore
from chitram.platform.objects.local import LocalStore
from chitram.platform.objects.remote import RemoteStore
from tests.support.object_store import MemoryStore
from tests.support.seaweed import Seaweed

KEY = "blobs/0f/a-picture"
ALPHABET = bytes(range(256)) * 4


@pytest.fixture(params=["memory", "local", "remote"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ObjectStore]:
    store: ObjectStore
    if request.param == "memory":
        store = MemoryStore("primary")
    elif request.param == "local":
        store = LocalStore("primary", tmp_path / "objects")
    else:
        server: Seaweed = request.getfixturevalue("seaweed")
        server.clear()
        store = RemoteStore("primary", server.bucket)
    await store.start()
    yield store
    await store.aclose()


async def keep(store: ObjectStore, key: str, content: bytes) -> None:
    await store.put(key, [content], len(content))


async def content_of(store: ObjectStore, key: str) -> bytes:
    found = await store.open(key)
    try:
        return await found.read(0, found.size)
    finally:
        await found.aclose()


async def keys_of(store: ObjectStore, prefix: str = "") -> list[str]:
    return sorted([stat.key async for stat in store.list(prefix)])


async def nothing_is_kept(store: ObjectStore) -> bool:
    return await store.stat(KEY) is None and await keys_of(store) == []


def test_has_the_name_it_was_given(store: ObjectStore) -> None:
    assert store.name == "primary"


async def test_gives_back_what_was_put(store: ObjectStore) -> None:
    await store.put(KEY, [b"one ", b"", b"two"], 7)
    assert await content_of(store, KEY) == b"one two"


async def test_keeps_an_empty_object(store: ObjectStore) -> None:
    await store.put(KEY, [], 0)
    found = await store.open(KEY)
    assert (found.size, await found.read(0, 10)) == (0, b"")
    await found.aclose()


@pytest.mark.parametrize(
    ("offset", "length"),
    [(0, 1), (0, 1024), (1, 10), (300, 300), (1020, 4), (1023, 1), (1000, 0)],
)
async def test_reads_any_range(store: ObjectStore, offset: int, length: int) -> None:
    await keep(store, KEY, ALPHABET)
    found = await store.open(KEY)
    assert await found.read(offset, length) == ALPHABET[offset : offset + length]
    await found.aclose()


@pytest.mark.parametrize(("offset", "rest"), [(1000, 24), (1024, 0), (1025, 0), (1 << 40, 0)])
async def test_reads_less_at_the_end_and_nothing_beyond(store: ObjectStore, offset: int, rest: int) -> None:
    await keep(store, KEY, ALPHABET)
    found = await store.open(KEY)
    assert await found.read(offset, 1 << 40) == ALPHABET[1024 - rest :][:rest]
    await found.aclose()


@pytest.mark.parametrize(("offset", "length"), [(-1, 10), (0, -1)])
async def test_refuses_a_negative_range(store: ObjectStore, offset: int, length: int) -> None:
    await keep(store, KEY, ALPHABET)
    found = await store.open(KEY)
    with pytest.raises(ValueError):
        await found.read(offset, length)
    await found.aclose()


async def test_reads_pieces_at_the_same_time(store: ObjectStore) -> None:
    await keep(store, KEY, ALPHABET)
    found = await store.open(KEY)
    pieces = await asyncio.gather(*(found.read(offset, 64) for offset in range(0, 1024, 64)))
    assert b"".join(pieces) == ALPHABET
    await found.aclose()


async def test_replaces_what_was_there(store: ObjectStore) -> None:
    await keep(store, KEY, b"the first and longer one")
    await keep(store, KEY, b"the second")
    assert await content_of(store, KEY) == b"the second"
    assert await keys_of(store) == [KEY]


async def test_an_open_object_never_mixes_two_versions(store: ObjectStore) -> None:
    await keep(store, KEY, b"a" * 1000)
    found = await store.open(KEY)
    await keep(store, KEY, b"b" * 1000)
    try:
        assert await found.read(0, 1000) == b"a" * 1000
    except StorageUnavailable:
        pass
    finally:
        await found.aclose()


async def test_an_open_object_stays_readable_after_its_deletion_or_says_that_it_is_gone(
    store: ObjectStore,
) -> None:
    await keep(store, KEY, ALPHABET)
    found = await store.open(KEY)
    await store.delete(KEY)
    try:
        assert await found.read(10, 20) == ALPHABET[10:30]
    except (ObjectNotFound, StorageUnavailable):
        pass
    finally:
        await found.aclose()


async def test_opening_what_is_not_there_says_so(store: ObjectStore) -> None:
    await keep(store, f"{KEY}-other", b"x")
    with pytest.raises(ObjectNotFound):
        await store.open(KEY)


async def test_a_folder_is_no_object(store: ObjectStore) -> None:
    await keep(store, KEY, b"x")
    with pytest.raises(ObjectNotFound):
        await store.open("blobs/0f")
    assert await store.stat("blobs/0f") is None
    await store.delete("blobs/0f")
    assert await keys_of(store) == [KEY]


async def test_nothing_lies_under_an_object(store: ObjectStore) -> None:
    await keep(store, KEY, b"x")
    with pytest.raises(ObjectNotFound):
        await store.open(f"{KEY}/below")
    assert await store.stat(f"{KEY}/below") is None
    await store.delete(f"{KEY}/below")
    assert await keys_of(store) == [KEY]


async def test_describes_an_object(store: ObjectStore) -> None:
    await keep(store, KEY, ALPHABET)
    found = await store.stat(KEY)
    assert found is not None
    assert (found.key, found.size) == (KEY, 1024)
    assert abs(found.modified - datetime.now(UTC)) < timedelta(minutes=1)


async def test_describes_nothing_where_nothing_is(store: ObjectStore) -> None:
    assert await store.stat(KEY) is None


async def test_a_deleted_object_is_gone(store: ObjectStore) -> None:
    await keep(store, KEY, b"x")
    await store.delete(KEY)
    assert await nothing_is_kept(store)
    with pytest.raises(ObjectNotFound):
        await store.open(KEY)


async def test_deleting_what_is_not_there_is_no_error(store: ObjectStore) -> None:
    await keep(store, KEY, b"x")
    await store.delete(KEY)
    await store.delete(KEY)
    await store.delete("never/was")


async def test_a_key_can_be_used_again_after_its_deletion(store: ObjectStore) -> None:
    await keep(store, KEY, b"before")
    await store.delete(KEY)
    await keep(store, KEY, b"after")
    assert await content_of(store, KEY) == b"after"


async def test_lists_nothing_when_empty(store: ObjectStore) -> None:
    assert await keys_of(store) == []


async def test_lists_every_key_that_starts_with_the_prefix(store: ObjectStore) -> None:
    keys = ["a", "ab/c", "ab/cd", "abc/d/e", "b/a"]
    for key in keys:
        await keep(store, key, b"x")
    listed = {prefix: await keys_of(store, prefix) for prefix in ("", "ab", "ab/", "ab/c", "abc/d", "c")}
    assert listed == {prefix: [key for key in keys if key.startswith(prefix)] for prefix in listed}


async def test_a_listing_describes_as_stat_does(store: ObjectStore) -> None:
    await keep(store, KEY, ALPHABET)
    assert [listed async for listed in store.list()] == [await store.stat(KEY)]


async def test_lists_more_than_one_page(store: ObjectStore) -> None:
    keys = [f"blobs/{number % 16:x}/{number:04}" for number in range(1100)]
    gate = asyncio.Semaphore(8)

    async def put(key: str) -> None:
        async with gate:
            await keep(store, key, b"x")

    await asyncio.gather(*map(put, keys))
    assert await keys_of(store) == sorted(keys)


async def test_a_listing_may_be_left_early(store: ObjectStore) -> None:
    for number in range(3):
        await keep(store, f"key-{number}", b"x")
    async for _ in store.list():
        break
    assert len(await keys_of(store)) == 3


async def test_keeps_a_large_object_that_comes_in_odd_chunks(store: ObjectStore) -> None:
    content = (b"a large picture " * 524_289)[: 8 * 1024 * 1024 + 1]

    def chunks() -> Iterator[bytes]:
        for offset in range(0, len(content), 99_991):
            yield content[offset : offset + 99_991]

    await store.put(KEY, chunks(), len(content))
    assert await content_of(store, KEY) == content


@pytest.mark.parametrize("size", [6, 8, 0])
async def test_refuses_chunks_that_are_not_as_long_as_announced(store: ObjectStore, size: int) -> None:
    with pytest.raises(ValueError):
        await store.put(KEY, [b"one ", b"two"], size)
    assert await nothing_is_kept(store)


@pytest.mark.parametrize("difference", [-1, 1])
async def test_refuses_a_large_object_of_another_size_than_announced(
    store: ObjectStore, difference: int
) -> None:
    chunk = bytes(1024 * 1024)
    with pytest.raises(ValueError):
        await store.put(KEY, [chunk] * 17, 17 * len(chunk) + difference)
    assert await nothing_is_kept(store)


async def test_chunks_that_never_end_are_cut_off(store: ObjectStore) -> None:
    with pytest.raises(ValueError):
        await store.put(KEY, itertools.repeat(b"more"), 100)
    assert await nothing_is_kept(store)


@pytest.mark.parametrize("mebibytes", [1, 17])
async def test_chunks_that_fail_midway_leave_nothing_visible(store: ObjectStore, mebibytes: int) -> None:
    def chunks() -> Iterator[bytes]:
        yield from [bytes(1024 * 1024)] * mebibytes
        raise EOFError("the spool is short")

    with pytest.raises(EOFError, match="the spool is short"):
        await store.put(KEY, chunks(), (mebibytes + 1) * 1024 * 1024)
    assert await nothing_is_kept(store)


async def test_what_was_there_survives_a_failed_replacement(store: ObjectStore) -> None:
    await keep(store, KEY, b"good")
    with pytest.raises(ValueError):
        await store.put(KEY, [b"bad"], 4)
    assert await content_of(store, KEY) == b"good"


async def test_chunks_are_not_consumed_on_the_event_loop(store: ObjectStore) -> None:
    threads = []

    def chunks() -> Iterator[bytes]:
        threads.append(threading.current_thread())
        yield b"x"

    await store.put(KEY, chunks(), 1)
    assert threads != [threading.main_thread()]


async def test_of_puts_to_one_key_at_the_same_time_one_wins_whole(store: ObjectStore) -> None:
    contents = [bytes([number]) * 100_000 for number in range(8)]
    await asyncio.gather(*(keep(store, KEY, content) for content in contents))
    assert await content_of(store, KEY) in contents
    assert await keys_of(store) == [KEY]


async def test_different_keys_can_be_put_at_the_same_time(store: ObjectStore) -> None:
    contents = {f"new/{number % 3}/{number}": bytes([number]) * 5000 for number in range(24)}
    await asyncio.gather(*(keep(store, key, content) for key, content in contents.items()))
    assert {key: await content_of(store, key) for key in await keys_of(store)} == contents


@pytest.mark.parametrize(
    "key",
    [
        *("", "/", "/a", "a/", "a//b", ".", "..", "a/..", "../a", "a/./b", ".hidden", "a/.hidden"),
        *(
            "A",
            "a b",
            "a\0b",
            "a\nb",
            "a\\b",
            "é",
            "a\n",
            "-a",
            "_a",
            "a?b",
            "a%2e",
            "a" * 256,
            "a/" * 600 + "a",
        ),
    ],
)
async def test_refuses_what_is_no_key(store: ObjectStore, key: str) -> None:
    with pytest.raises(ValueError):
        await keep(store, key, b"x")
    with pytest.raises(ValueError):
        await store.open(key)
    with pytest.raises(ValueError):
        await store.stat(key)
    with pytest.raises(ValueError):
        await store.delete(key)
    with pytest.raises(ValueError):
        await store.presign("GET", key, 60)
    with pytest.raises(ValueError):
        store.internal_path(key)
    assert await keys_of(store) == []


@pytest.mark.parametrize("prefix", ["/", "../", "a//", "A", "a/../b", ".unfinished/"])
async def test_refuses_what_starts_no_key(store: ObjectStore, prefix: str) -> None:
    with pytest.raises(ValueError):
        await keys_of(store, prefix)


async def test_nothing_unfinished_remains_after_puts_that_ended(store: ObjectStore) -> None:
    await keep(store, KEY, b"x")
    with pytest.raises(ValueError):
        await store.put(f"{KEY}-2", [b"x"], 2)
    assert await store.remove_unfinished(datetime.now(UTC) + timedelta(hours=1)) == 0
    assert await content_of(store, KEY) == b"x"


async def test_a_cancelled_put_leaves_all_or_nothing(store: ObjectStore) -> None:
    reached, resume = threading.Event(), threading.Event()

    def chunks() -> Iterator[bytes]:
        yield b"half"
        reached.set()
        resume.wait(10)
        yield b"half"

    putting = asyncio.ensure_future(store.put(KEY, chunks(), 8))
    await asyncio.to_thread(reached.wait, 10)
    putting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await putting
    resume.set()
    await keep(store, f"{KEY}-next", b"x")
    assert await keys_of(store) == [f"{KEY}-next"]


async def test_a_cancelled_put_soon_stops_asking_for_chunks(store: ObjectStore) -> None:
    reached, resume, ended = threading.Event(), threading.Event(), threading.Event()
    asked: list[int] = []

    def chunks() -> Iterator[bytes]:
        try:
            for number in range(100):
                asked.append(number)
                reached.set()
                resume.wait(10)
                yield b"x"
        finally:
            ended.set()

    putting = asyncio.ensure_future(store.put(KEY, chunks(), 100))
    await asyncio.to_thread(reached.wait, 10)
    putting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await putting
    resume.set()
    assert await asyncio.to_thread(ended.wait, 10)
    assert asked == [0]


@pytest.mark.parametrize("seconds", [-1, 0, 604_801])
async def test_refuses_to_make_an_address_for_no_time_or_for_ever(store: ObjectStore, seconds: int) -> None:
    with pytest.raises(ValueError):
        await store.presign("GET", KEY, seconds)


async def test_a_store_gives_an_address_or_a_path_but_not_both(store: ObjectStore) -> None:
    assert await store.presign("GET", KEY, 60) is None or store.internal_path(KEY) is None


async def test_the_path_of_an_object_leads_to_its_bytes(store: ObjectStore, tmp_path: Path) -> None:
    await keep(store, KEY, ALPHABET)
    if (path := store.internal_path(KEY)) is not None:
        assert (tmp_path / "objects" / path).read_bytes() == ALPHABET


async def test_a_working_store_passes_its_check(store: ObjectStore) -> None:
    await store.check()

"""Where reads are answered from, and how often the database is asked."""

from __future__ import annotations

import asyncio
import time
from uuid import UUID, uuid4

import msgspec
import pytest

from chitram.delivery.adapters.metadata_cache.entries import Load, LocalEntries
from chitram.delivery.adapters.metadata_cache.images import DirectImages
from chitram.delivery.adapters.metadata_cache.values import CODEC, shared_images
from chitram.delivery.ports import XCache
from chitram.images.public import ImageView, image_body
from chitram.kernel.errors import DatabaseUnavailable
from chitram.platform.shared_cache import reading
from chitram.platform.shared_cache.codec import UnreadableValue, shape_of
from chitram.platform.shared_cache.entries import LOOK_SECONDS, Known, Turn
from chitram.platform.shared_cache.epoch import FRESH_SECONDS
from tests.support.caches import LIFE_SECONDS, CacheProcess, Rows, a_view
from tests.support.proxy import Mode, Proxy
from tests.support.waiting import until


async def test_the_first_read_asks_the_database_and_the_next_the_memory(
    here: CacheProcess, rows: Rows
) -> None:
    image_id = rows.add()
    assert (await here.images.find(image_id))[1] is XCache.MISS
    image, x_cache = await here.images.find(image_id)
    assert image is not None
    assert (image.view, x_cache, rows.asked) == (rows.views[image_id], XCache.HIT, 1)


async def test_what_one_process_has_read_another_finds_in_valkey(
    here: CacheProcess, there: CacheProcess, rows: Rows
) -> None:
    image_id = rows.add()
    await here.sees(image_id)
    image, x_cache = await there.images.find(image_id)
    assert image is not None
    assert (image.view, x_cache, rows.asked) == (rows.views[image_id], XCache.HIT, 1)
    assert there.counts.shared_hits == 1


async def test_that_there_is_no_image_is_remembered_too(
    here: CacheProcess, there: CacheProcess, rows: Rows
) -> None:
    unknown = uuid4()
    for process in (here, here, there, there):
        assert await process.sees(unknown) is None
    assert rows.asked == 1
    assert (here.counts.misses, here.counts.local_missing) == (1, 1)
    assert (there.counts.shared_missing, there.counts.local_missing) == (1, 1)


async def test_the_memory_lasts_less_than_a_second(here: CacheProcess, rows: Rows) -> None:
    image_id = rows.add()
    began = time.monotonic()
    await here.sees(image_id)
    assert here.entries.get(image_id, began) is not None
    assert here.entries.get(image_id, began + FRESH_SECONDS) is None


AHEAD = "chitram.delivery.adapters.metadata_cache.images.AHEAD_SECONDS"


async def about_to_end(process: CacheProcess, image_id: UUID, monkeypatch: pytest.MonkeyPatch) -> float:
    """Have a process remember an image which it will soon have to ask for again; gives the end of that."""
    monkeypatch.setattr(AHEAD, FRESH_SECONDS)
    read_at, _ = time.monotonic(), await process.sees(image_id)
    await process.epoch.read()
    return read_at + FRESH_SECONDS


async def test_what_is_still_asked_for_is_loaded_again_before_it_ends(
    here: CacheProcess, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    image_id = rows.add()
    end = await about_to_end(here, image_id, monkeypatch)
    assert await asyncio.gather(*(here.sees(image_id) for _ in range(50))) == [rows.views[image_id]] * 50
    assert here.counts.local_hits == 50

    async def lasts_longer() -> bool:
        return here.entries.get(image_id, end) is not None

    await until(lasts_longer)
    assert (rows.asked, here.counts.loads, here.counts.shared_hits) == (1, 1, 0)


async def test_what_cannot_be_loaded_again_is_remembered_to_its_end(
    here: CacheProcess, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    image_id = rows.add()
    end = await about_to_end(here, image_id, monkeypatch)
    await here.client.flushdb()
    rows.away = True
    assert await here.sees(image_id) == rows.views[image_id]

    async def was_tried() -> bool:
        return here.entries.running(image_id, time.monotonic()) is None

    await until(was_tried)
    assert rows.asked == 2
    assert here.entries.get(image_id, end) is None
    with pytest.raises(DatabaseUnavailable):
        here.entries.clear()
        await here.sees(image_id)


async def test_what_would_be_no_fresher_is_not_loaded_again(
    here: CacheProcess, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    image_id = rows.add()
    await here.sees(image_id)
    monkeypatch.setattr(AHEAD, FRESH_SECONDS)
    await here.sees(image_id)
    assert here.entries.running(image_id, time.monotonic()) is None
    monkeypatch.setattr(here.epoch, "_read_at", time.monotonic() - FRESH_SECONDS)
    await here.sees(image_id)
    assert here.entries.running(image_id, time.monotonic()) is None


async def test_what_was_being_loaded_again_as_it_changed_is_not_remembered(
    here: CacheProcess, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    image_id = rows.add()
    await about_to_end(here, image_id, monkeypatch)
    await here.client.flushdb()
    with rows.held():
        await here.sees(image_id)
        await rows.waiting.wait()
        changed = rows.change(image_id, visibility="private")
        assert await here.caches.invalidate(image_id, changed.version)
    assert await here.sees(image_id) == changed
    assert await here.sees(image_id) == changed


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        ({"processing": "pending", "optimised": False}, 2),
        ({"processing": "pending", "optimised": True}, 2),
        ({"processing": "ready", "optimised": False}, 60),
        ({"processing": "ready", "optimised": True}, LIFE_SECONDS),
        ({"processing": "failed", "optimised": False}, LIFE_SECONDS),
    ],
    ids=["pending", "again", "not-optimised", "ready", "failed"],
)
async def test_what_is_on_its_way_is_remembered_together_for_a_moment_only(
    here: CacheProcess, rows: Rows, fields: dict[str, object], seconds: int
) -> None:
    image_id = rows.add()
    rows.change(image_id, **fields)
    await here.sees(image_id)
    [key] = [key async for key in here.client.scan_iter(f"*{image_id}*")]
    left = await here.client.pttl(key)
    # A quarter of it is left to chance, and a moment has passed.
    assert 750 * seconds - 1000 < left <= 1000 * seconds


async def test_what_is_on_its_way_is_remembered_no_longer_than_anything(
    here: CacheProcess, rows: Rows
) -> None:
    image_id = rows.add()
    pending = rows.change(image_id, processing="pending", optimised=False)
    short = shared_images(here.guard, seconds=1)
    assert await short.look(image_id, 1, b"token") is Turn.FETCH
    assert await short.fill(image_id, 1, b"token", pending)
    [key] = [key async for key in here.client.scan_iter(f"*{image_id}*")]
    assert await here.client.pttl(key) <= 1000


async def test_many_who_ask_at_once_share_one_load(
    here: CacheProcess, there: CacheProcess, rows: Rows
) -> None:
    image_id = rows.add()
    with rows.held():
        asking = [asyncio.create_task(process.sees(image_id)) for process in (here, there) for _ in range(50)]
        await rows.waiting.wait()
    assert await asyncio.gather(*asking) == [rows.views[image_id]] * 100
    assert rows.asked == 1
    assert here.counts.loads + there.counts.loads == 1


async def test_one_who_goes_away_does_not_take_the_answer_of_the_others_along(
    here: CacheProcess, rows: Rows
) -> None:
    image_id = rows.add()
    with rows.held():
        first, second = (asyncio.create_task(here.sees(image_id)) for _ in range(2))
        await rows.waiting.wait()
        first.cancel()
    assert await second == rows.views[image_id]


async def test_a_waiting_process_goes_to_the_database_itself_in_the_end(
    here: CacheProcess, there: CacheProcess, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_PAUSES", (0.001, 0.001))
    image_id = rows.add()
    with rows.held():
        holder = asyncio.create_task(here.sees(image_id))
        await rows.waiting.wait()
        rows.waiting.clear()
        waiter = asyncio.create_task(there.sees(image_id))
        await rows.waiting.wait()
    assert list(await asyncio.gather(holder, waiter)) == [rows.views[image_id]] * 2
    assert (there.counts.waits, there.counts.loads, there.counts.refused_fills) == (1, 1, 0)


async def test_a_slow_valkey_makes_for_fewer_looks_and_no_longer_wait(
    here: CacheProcess, there: CacheProcess, rows: Rows, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    look = here.shared.look

    async def counted(image_id: UUID, epoch: int, token: bytes) -> Known[ImageView] | Turn:
        nonlocal looks
        looks += 1
        return await look(image_id, epoch, token)

    monkeypatch.setattr(here.shared, "look", counted)
    await here.sees(rows.add())
    image_id, looks = rows.add(), 0
    with rows.held():
        holder = asyncio.create_task(there.sees(image_id))
        await rows.waiting.wait()
        rows.waiting.clear()
        proxy.delay_seconds = LOOK_SECONDS * 0.6
        waiter = asyncio.create_task(here.sees(image_id))
        await rows.waiting.wait()
    await asyncio.gather(holder, waiter)
    # Each takes 30 ms and a pause.
    assert looks <= 5


async def test_an_error_reaches_all_who_share_the_load_and_is_not_remembered(
    here: CacheProcess, rows: Rows
) -> None:
    image_id = rows.add()
    rows.away = True
    answers = await asyncio.gather(*(here.sees(image_id) for _ in range(3)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [DatabaseUnavailable] * 3
    rows.away = False
    assert await here.sees(image_id) == rows.views[image_id]


@pytest.mark.parametrize("mode", [Mode.CUT, Mode.HANG])
async def test_without_valkey_the_database_answers(
    here: CacheProcess, rows: Rows, proxy: Proxy, mode: Mode
) -> None:
    await here.sees(rows.add())
    proxy.mode = mode
    if mode is Mode.CUT:
        proxy.cut_all()
    wanted = [rows.add() for _ in range(20)]
    assert await asyncio.gather(*map(here.sees, wanted)) == [rows.views[one] for one in wanted]
    assert here.counts.valkey_failures > 0
    assert (await here.images.find(wanted[0]))[1] is XCache.HIT
    proxy.mode = Mode.PASS

    async def answered_by_valkey() -> bool:
        failures = here.counts.valkey_failures
        await here.sees(rows.add())
        return here.counts.valkey_failures == failures

    async with asyncio.timeout(10):
        while not await answered_by_valkey():
            await asyncio.sleep(0.01)


async def test_an_epoch_that_was_not_read_lately_makes_the_shared_cache_useless(
    here: CacheProcess, there: CacheProcess, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    image_id = rows.add()
    await here.sees(image_id)
    monkeypatch.setattr(there.epoch, "_read_at", time.monotonic() - FRESH_SECONDS)
    assert (await there.images.find(image_id))[1] is XCache.MISS
    assert rows.asked == 2
    await there.epoch.read()
    there.entries.clear()
    assert (await there.images.find(image_id))[1] is XCache.HIT


async def test_an_entry_is_no_fresher_than_the_epoch_it_relies_on(
    here: CacheProcess, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    image_id = rows.add()
    read_at = time.monotonic() - FRESH_SECONDS / 2
    monkeypatch.setattr(here.epoch, "_read_at", read_at)
    await here.sees(image_id)
    assert here.entries.get(image_id, read_at + FRESH_SECONDS - 0.001) is not None
    assert here.entries.get(image_id, read_at + FRESH_SECONDS) is None


async def test_no_process_reads_what_was_written_in_another_shape(
    here: CacheProcess, there: CacheProcess, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    image_id = rows.add()
    await here.sees(image_id)
    # The same fields, but they mean something else.
    other = CODEC.encode(rows.views[image_id]).replace(CODEC.shape, b"\0" * len(CODEC.shape))
    [key] = [key async for key in there.client.scan_iter(f"*{image_id}*")]
    await there.client.set(key, other)
    assert (await there.images.find(image_id))[1] is XCache.MISS
    # It is overwritten, for this release reads on.
    assert CODEC.decode(await there.client.get(key)) == rows.views[image_id]


async def test_a_damaged_value_is_read_again_from_the_database(
    here: CacheProcess, there: CacheProcess, rows: Rows
) -> None:
    image_id = rows.add()
    await here.sees(image_id)
    [key] = [key async for key in there.client.scan_iter(f"*{image_id}*")]
    await there.client.set(key, CODEC.encode(rows.views[image_id])[:-3])
    assert await there.sees(image_id) == rows.views[image_id]
    assert rows.asked == 2


async def test_values_of_a_server_that_was_started_again_are_not_found(
    here: CacheProcess, there: CacheProcess, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    image_id = rows.add()
    await here.sees(image_id)
    # Its data came back from a snapshot, its run id did not.
    [key] = [key async for key in there.client.scan_iter(f"*{image_id}*")]
    run = (await there.client.info("server"))["run_id"].encode()
    assert run in key
    await there.client.rename(key, key.replace(run, b"0" * len(run)))
    assert (await there.images.find(image_id))[1] is XCache.MISS


def test_a_view_comes_back_as_it_was_written() -> None:
    view = a_view()
    assert CODEC.decode(CODEC.encode(view)) == view
    assert CODEC.decode(CODEC.encode(None)) is None
    with pytest.raises(UnreadableValue):
        CODEC.decode(b"nonsense")


def test_the_shape_follows_the_fields_and_their_types() -> None:
    class Same(ImageView, frozen=True):
        pass

    class More(ImageView, frozen=True):
        extra: int = 0

    kinds: list[type] = [
        msgspec.defstruct("View", [("a", int)]),
        msgspec.defstruct("View", [("a", str)]),
        msgspec.defstruct("View", [("b", int)]),
        msgspec.defstruct("View", [("a", int | None)]),
        More,
        Same,
    ]
    assert len({shape_of(kind, 1) for kind in kinds}) == len(kinds)
    assert shape_of(ImageView, 1) == CODEC.shape != shape_of(ImageView, meaning=2)


def test_memory_is_bounded_and_the_oldest_goes_first() -> None:
    entries = LocalEntries(max_entries=3)
    ids = [uuid4() for _ in range(5)]
    for image_id in ids:
        load = Load(fresh_until=10)
        entries.begin(image_id, load)
        entries.finish(image_id, load, None)
    assert len(entries) == 3
    assert [entries.get(image_id, 0) for image_id in ids] == [None, None, *[(None, 10)] * 3]


async def test_the_encoded_body_is_that_of_the_image(here: CacheProcess, rows: Rows) -> None:
    image, _ = await here.images.find(rows.add())
    assert image is not None
    assert msgspec.json.decode(image.body, type=type(image_body(image.view))) == image_body(image.view)
    assert image.body is image.body


async def test_without_a_cache_every_read_asks_the_database(rows: Rows) -> None:
    image_id = rows.add()
    direct = DirectImages(rows)
    for _ in range(2):
        image, x_cache = await direct.find(image_id)
        assert image is not None
        assert (image.view, x_cache) == (rows.views[image_id], XCache.DISABLED)
    assert rows.asked == 2


async def test_repeated_reads_are_hits_for_more_than_95_in_100(
    here: CacheProcess, there: CacheProcess, rows: Rows
) -> None:
    wanted = [rows.add() for _ in range(20)]
    for _ in range(25):
        for process in (here, there):
            process.entries.clear()  # a second later
            await process.epoch.read()
            await asyncio.gather(*map(process.sees, wanted))
    assert rows.asked == len(wanted)
    ratios = [process.counts.hit_ratio for process in (here, there)]
    assert all(ratio is not None and ratio > 0.95 for ratio in ratios)

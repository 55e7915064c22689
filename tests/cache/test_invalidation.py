"""What is removed or changed is not answered from a copy, whatever happens in between."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any
from uuid import uuid4

import pytest

from chitram.delivery.adapters.metadata_cache.entries import LocalEntries
from chitram.delivery.adapters.metadata_cache.subscriber import Subscriber
from chitram.images.public import GONE, UNKNOWN
from chitram.platform.settings import Settings
from chitram.platform.shared_cache.epoch import KnownEpoch
from chitram.platform.valkey import ValkeyUnavailable, make_valkey
from tests.support.caches import CacheProcess, FakeEpochs, Rows
from tests.support.proxy import Mode, Proxy


async def test_a_removed_image_is_gone_at_once_and_remembered_as_gone(
    here: CacheProcess, there: CacheProcess, rows: Rows
) -> None:
    image_id = rows.add()
    await here.sees(image_id)
    del rows.views[image_id]
    assert await here.caches.invalidate(image_id, GONE)
    assert await here.sees(image_id) is None
    assert await there.sees(image_id) is None
    assert rows.asked == 1


async def test_a_load_under_way_answers_those_who_asked_before_and_no_others(
    here: CacheProcess, rows: Rows
) -> None:
    image_id = rows.add()
    old = rows.views[image_id]
    with rows.held():
        before = asyncio.create_task(here.sees(image_id))
        await rows.waiting.wait()
        del rows.views[image_id]
        await here.caches.invalidate(image_id, GONE)
        async with asyncio.timeout(5):
            assert await here.sees(image_id) is None
    assert await before == old
    assert await here.sees(image_id) is None
    assert here.counts.refused_fills == 1


async def test_what_is_read_while_valkey_is_being_told_is_not_remembered(
    here: CacheProcess, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    image_id = rows.add()
    await here.sees(image_id)
    tell = here.shared.invalidate

    async def read_and_tell(*arguments: Any) -> None:
        # Valkey has the image still.
        assert await here.sees(image_id) is not None
        await tell(*arguments)

    monkeypatch.setattr(here.shared, "invalidate", read_and_tell)
    del rows.views[image_id]
    await here.caches.invalidate(image_id, GONE)
    assert await here.sees(image_id) is None


async def test_what_valkey_said_before_something_was_forgotten_is_not_remembered(
    here: CacheProcess, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    image_id = rows.add()
    await here.sees(image_id)
    here.entries.clear()
    peek = here.shared.peek

    async def peek_and_hear(*arguments: Any) -> Any:
        found = await peek(*arguments)
        # The message of another process arrives before its answer is used.
        here.entries.drop(image_id)
        return found

    monkeypatch.setattr(here.shared, "peek", peek_and_hear)
    assert await here.sees(image_id) == rows.views[image_id]
    assert len(here.entries) == 0
    monkeypatch.undo()
    assert await here.sees(image_id) == rows.views[image_id]
    assert len(here.entries) == 1


async def test_a_fill_that_comes_after_a_flush_is_refused(
    here: CacheProcess, there: CacheProcess, rows: Rows
) -> None:
    image_id = rows.add()
    with rows.held():
        asking = asyncio.create_task(here.sees(image_id))
        await rows.waiting.wait()
        await there.client.flushdb()
    await asking
    assert here.counts.refused_fills == 1
    assert await there.client.dbsize() == 0


async def test_a_fill_older_than_a_change_is_refused_even_with_a_lease_from_after_it(
    here: CacheProcess, there: CacheProcess, rows: Rows
) -> None:
    image_id = rows.add()
    stale = rows.views[image_id]
    fresh = rows.change(image_id, filename="new.jpg")
    await here.caches.invalidate(image_id, fresh.version)
    # A replica that lags still answers with the old row.
    rows.views[image_id] = stale
    await here.sees(image_id)
    assert here.counts.refused_fills == 1
    rows.views[image_id] = fresh
    assert await there.sees(image_id) == fresh
    here.entries.clear()
    assert await here.sees(image_id) == fresh
    assert (there.counts.refused_fills, here.counts.shared_hits) == (0, 1)


async def test_a_changed_image_is_read_anew(here: CacheProcess, there: CacheProcess, rows: Rows) -> None:
    image_id = rows.add()
    await here.sees(image_id)
    fresh = rows.change(image_id, visibility="private")
    assert await here.caches.invalidate(image_id, fresh.version)
    assert await here.sees(image_id) == fresh
    assert await there.sees(image_id) == fresh


async def test_a_doubtful_removal_hides_nothing(here: CacheProcess, there: CacheProcess, rows: Rows) -> None:
    image_id = rows.add()
    await here.sees(image_id)
    assert await here.caches.invalidate(image_id, UNKNOWN)
    assert await there.sees(image_id) == rows.views[image_id]
    assert rows.asked == 2


@pytest.mark.parametrize("mode", [Mode.CUT, Mode.HANG])
async def test_without_valkey_the_epoch_is_raised(
    here: CacheProcess, there: CacheProcess, rows: Rows, epochs: FakeEpochs, proxy: Proxy, mode: Mode
) -> None:
    image_id = rows.add()
    await here.sees(image_id)
    proxy.mode = mode
    if mode is Mode.CUT:
        proxy.cut_all()
    del rows.views[image_id]
    assert await here.caches.invalidate(image_id, GONE)
    assert epochs.epoch == 2
    proxy.mode = Mode.PASS
    assert await here.sees(image_id) is None
    # The other process believes the old epoch only as long as it may.
    assert await there.sees(image_id) is not None
    there.entries.clear()
    await there.epoch.read()
    assert await there.sees(image_id) is None


async def test_an_invalidation_reaches_the_keys_of_an_epoch_it_had_not_heard_of(
    here: CacheProcess, there: CacheProcess, rows: Rows, epochs: FakeEpochs
) -> None:
    image_id = rows.add()
    await there.epoch.raise_epoch()
    await there.sees(image_id)
    there.entries.clear()
    del rows.views[image_id]
    assert await here.caches.invalidate(image_id, GONE)
    assert await there.sees(image_id) is None


async def test_what_could_not_be_confirmed_at_all_is_told(
    here: CacheProcess, rows: Rows, epochs: FakeEpochs, proxy: Proxy
) -> None:
    image_id = rows.add()
    await here.sees(image_id)
    proxy.mode = Mode.CUT
    proxy.cut_all()
    epochs.away = True
    del rows.views[image_id]
    assert not await here.caches.invalidate(image_id, GONE)
    assert await here.sees(image_id) is None


async def test_what_could_not_be_confirmed_is_made_up_for_by_the_next_reading_of_the_epoch(
    here: CacheProcess, there: CacheProcess, rows: Rows, epochs: FakeEpochs, proxy: Proxy
) -> None:
    image_id = rows.add()
    await here.sees(image_id)
    proxy.mode = Mode.HANG
    epochs.away = True
    del rows.views[image_id]
    assert not await here.caches.invalidate(image_id, GONE)
    proxy.mode = Mode.PASS
    epochs.away = False
    # Valkey may be back before the epoch could be raised.
    await _until_valkey_answers(here)
    assert await here.sees(image_id) is None
    await here.epoch.read()
    await there.epoch.read()
    assert await there.sees(image_id) is None
    assert epochs.epoch == 2
    await here.epoch.read()
    assert epochs.epoch == 2


async def test_a_raise_that_began_before_it_was_owed_does_not_settle_it() -> None:
    class Slow(FakeEpochs):
        async def raise_epoch(self) -> int:
            raised = await super().raise_epoch()
            await going.wait()
            return raised

    going = asyncio.Event()
    known = KnownEpoch(Slow())
    raising = asyncio.create_task(known.raise_epoch())
    await asyncio.sleep(0)
    known.owe_raise()
    going.set()
    await raising
    assert known.reading(time.monotonic()) is None
    assert await known.read() == 3
    assert known.reading(time.monotonic()) is not None


async def test_an_invalidation_without_a_readable_epoch_is_not_confirmed(
    here: CacheProcess, rows: Rows, epochs: FakeEpochs
) -> None:
    epochs.away = True
    assert not await here.caches.invalidate(rows.add(), GONE)


async def test_all_images_at_once_are_read_anew(here: CacheProcess, there: CacheProcess, rows: Rows) -> None:
    wanted = [rows.add() for _ in range(3)]
    for image_id in wanted:
        await here.sees(image_id)
        rows.change(image_id, width=5)
    assert await here.caches.invalidate_all()
    await there.epoch.read()
    for process in (here, there):
        assert [await process.sees(image_id) for image_id in wanted] == [rows.views[one] for one in wanted]


async def test_other_processes_hear_of_it(
    here: CacheProcess, there: CacheProcess, rows: Rows, valkey: str
) -> None:
    image_id, other = rows.add(), rows.add()
    client = make_valkey(Settings(valkey_url=valkey))
    listening = asyncio.create_task(Subscriber(client, there.entries).run())
    try:
        await _until_subscribed(there)
        await there.sees(image_id)
        await there.sees(other)
        await here.caches.invalidate(image_id, GONE)
        async with asyncio.timeout(5):
            while len(there.entries) > 1:
                await asyncio.sleep(0.001)
        assert await there.sees(image_id) is None
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        await client.aclose()


async def _until_valkey_answers(process: CacheProcess) -> None:
    async with asyncio.timeout(10):
        while True:
            with contextlib.suppress(ValkeyUnavailable):
                await process.shared.look(uuid4(), 1, b"probe")
                return
            await asyncio.sleep(0.01)


async def _until_subscribed(process: CacheProcess) -> None:
    async with asyncio.timeout(10):
        while not (await process.client.pubsub_numsub("chitram:metadata:invalid"))[0][1]:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("mode", [Mode.CUT, Mode.HANG])
async def test_a_lost_subscription_empties_the_memory_and_comes_back(
    there: CacheProcess, rows: Rows, valkey: str, mode: Mode
) -> None:
    async with Proxy(valkey) as proxy:
        client = make_valkey(Settings(valkey_url=proxy.url), command_seconds=1)
        listening = asyncio.create_task(Subscriber(client, there.entries).run())
        try:
            await _until_subscribed(there)
            await there.sees(rows.add())
            proxy.mode = mode
            if mode is Mode.CUT:
                proxy.cut_all()
            async with asyncio.timeout(10):
                while len(there.entries):
                    await asyncio.sleep(0.01)
            proxy.mode = Mode.PASS
            await _until_subscribed(there)
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
            await client.aclose()


async def test_an_answer_that_makes_no_sense_does_not_end_the_listening() -> None:
    subscriptions = asyncio.Queue[None]()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while line := await reader.readline():
                if line == b"SUBSCRIBE\r\n":
                    subscriptions.put_nowait(None)
                    writer.write(b"*1\r\n$9\r\nsubscribe\r\n")
                elif line in {b"CLIENT\r\n", b"INFO\r\n"}:
                    writer.write(b"$-1\r\n")
                elif line == b"PING\r\n":
                    writer.write(b"+PONG\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        client = make_valkey(Settings(valkey_url=f"valkey://127.0.0.1:{port}"))
        listening = asyncio.create_task(Subscriber(client, LocalEntries()).run())
        try:
            async with asyncio.timeout(10):
                for _ in range(2):
                    await subscriptions.get()
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
            await client.aclose()

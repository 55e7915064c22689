"""What commits owe reaches the queue, and piles up nowhere while Valkey is away."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest

from chitram.platform.outbox import OutboxEntry
from chitram.platform.queue import JobQueues, QueueName, QueueRelay
from chitram.platform.settings import Settings
from chitram.platform.valkey import ValkeyGuard, make_valkey
from tests.support.proxy import Mode, Proxy

KIND = "kind"
KINDS = {KIND: QueueName.URGENT}


def entry(kind: str = KIND) -> OutboxEntry:
    return OutboxEntry(uuid4(), kind)


@pytest.mark.parametrize("mode", [Mode.HANG, Mode.CUT])
async def test_what_many_commits_owe_waits_for_no_valkey_that_is_away(valkey_url: str, mode: Mode) -> None:
    # In a database where no worker looks.
    url = f"{valkey_url.rpartition('/')[0]}/8"
    async with (
        Proxy(url) as proxy,
        make_valkey(Settings(valkey_url=proxy.url)) as client,
        make_valkey(Settings(valkey_url=url)) as watching,
    ):
        await watching.flushdb()
        seen = JobQueues(watching, KINDS)[QueueName.URGENT]
        relay = QueueRelay(JobQueues(client, KINDS), ValkeyGuard(client, open_seconds=0.1))
        proxy.mode = mode
        for _ in range(200):
            relay.notify([entry(), entry("other")])
        # Each has 1 second, and those that wait for their turn are told of the first that fails.
        async with asyncio.timeout(5):
            await relay.drain()
        proxy.mode = Mode.PASS
        proxy.cut_all()
        wanted = entry()
        async with asyncio.timeout(10):
            while not await seen.count("queued"):
                relay.notify([wanted, entry("other")])
                await relay.drain()
        assert await seen.count("queued") == 1
        job = await seen.dequeue(1)
        assert job is not None
        assert job.key == str(wanted.id)


async def test_commits_that_follow_one_another_are_told_together_and_the_first_at_once(
    valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"{valkey_url.rpartition('/')[0]}/8"
    async with make_valkey(Settings(valkey_url=url)) as client:
        queues = JobQueues(client, KINDS)
        told: list[list[OutboxEntry]] = []
        changed = asyncio.Condition()
        enqueue = queues.enqueue

        async def watched(*entries: OutboxEntry) -> None:
            await enqueue(*entries)
            async with changed:
                told.append(list(entries))
                changed.notify_all()

        monkeypatch.setattr(queues, "enqueue", watched)
        # Longer than is waited here.
        monkeypatch.setattr("chitram.platform.queue._GAP_SECONDS", 60.0)
        relay = QueueRelay(queues, ValkeyGuard(client))
        first, *rest = [entry() for _ in range(4)]
        relay.notify([first])
        async with asyncio.timeout(10):
            await relay.drain()
        assert told == [[first]]
        monkeypatch.setattr("chitram.platform.queue._GAP_SECONDS", 1.5)
        for each in rest:
            relay.notify([each])
            # The relay could run by now.
            for _ in range(5):
                await asyncio.sleep(0)
        async with asyncio.timeout(10), changed:
            await changed.wait_for(lambda: len(told) > 1)
        assert told[1:] == [rest]
        await relay.drain()
        await client.flushdb()

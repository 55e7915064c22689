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

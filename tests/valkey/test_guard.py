"""Valkey behind its guard: healthy, away, hanging, and behind a busy event loop."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable
from typing import cast

import pytest
from valkey.asyncio import Valkey
from valkey.exceptions import ValkeyError

from chitram.platform.settings import Settings
from chitram.platform.valkey import ValkeyGuard, ValkeyUnavailable, execute_on_run, make_valkey
from tests.support.proxy import Mode, Proxy

SECONDS = 0.05
OPEN_SECONDS = 0.2


@pytest.fixture
async def proxy(valkey_url: str) -> AsyncIterator[Proxy]:
    async with Proxy(valkey_url) as relay:
        yield relay


@pytest.fixture
async def client(proxy: Proxy) -> AsyncIterator[Valkey]:
    made = make_valkey(Settings(valkey_url=proxy.url))
    yield made
    await made.aclose()


@pytest.fixture
def guard(client: Valkey) -> ValkeyGuard:
    return ValkeyGuard(client, open_seconds=OPEN_SECONDS)


def ping(client: Valkey) -> Awaitable[bool]:
    return client.ping()


async def nonsense(client: Valkey) -> str:
    return await cast("Awaitable[str]", client.eval("nonsense", 0))


async def fails(guard: ValkeyGuard, seconds: float = SECONDS) -> bool:
    try:
        await guard.call(ping, seconds=seconds)
    except ValkeyUnavailable:
        return True
    return False


async def until_back(guard: ValkeyGuard) -> None:
    async with asyncio.timeout(10):
        while await fails(guard):
            await asyncio.sleep(0.01)


async def test_returns_what_the_work_returns(guard: ValkeyGuard) -> None:
    assert await guard.call(lambda client: client.echo("hello"), seconds=SECONDS) == b"hello"


@pytest.mark.parametrize("mode", [Mode.CUT, Mode.HANG])
async def test_fails_while_valkey_is_away_and_comes_back_by_itself(
    guard: ValkeyGuard, proxy: Proxy, mode: Mode
) -> None:
    assert not await fails(guard)
    proxy.mode = mode
    if mode is Mode.CUT:
        proxy.cut_all()
    assert await fails(guard)
    proxy.mode = Mode.PASS
    await until_back(guard)


async def test_an_answer_that_says_no_counts_as_a_failure(guard: ValkeyGuard) -> None:
    with pytest.raises(ValkeyUnavailable, match="compiling"):
        await guard.call(nonsense, seconds=SECONDS)
    assert await fails(guard)


async def test_while_open_nothing_is_asked_but_one_probe_at_a_time(guard: ValkeyGuard, proxy: Proxy) -> None:
    proxy.mode = Mode.CUT
    assert await fails(guard)
    asked = proxy.accepted
    assert all(await asyncio.gather(*(fails(guard) for _ in range(100))))
    assert proxy.accepted == asked
    proxy.mode = Mode.HANG
    await asyncio.sleep(OPEN_SECONDS)
    assert all(await asyncio.gather(*(fails(guard) for _ in range(100))))
    assert proxy.accepted == asked + 1


async def test_many_calls_at_once_all_go_through_on_few_connections(client: Valkey, proxy: Proxy) -> None:
    guard = ValkeyGuard(client, turn_seconds=60)
    await asyncio.gather(*(guard.call(ping, seconds=60) for _ in range(1000)))
    assert proxy.accepted <= 32


async def test_those_who_wait_for_a_turn_do_not_wait_for_a_server_that_hangs(
    guard: ValkeyGuard, proxy: Proxy
) -> None:
    proxy.mode = Mode.HANG
    assert all(await asyncio.gather(*(fails(guard) for _ in range(1000))))
    assert proxy.accepted <= 32


async def test_nobody_waits_long_behind_others_for_a_server_that_is_slow(
    client: Valkey, proxy: Proxy
) -> None:
    guard = ValkeyGuard(client, turn_seconds=0.1)
    # Connections are made while it is not slow yet.
    assert not any(await asyncio.gather(*(fails(guard, seconds=60) for _ in range(32))))
    proxy.delay_seconds = 0.05
    failed = await asyncio.gather(*(fails(guard, seconds=60) for _ in range(1000)))
    assert 0 < sum(failed) < 1000
    # It was no fault of the server's.
    assert not await fails(guard, seconds=60)


async def test_a_busy_event_loop_is_not_taken_for_a_slow_server(guard: ValkeyGuard) -> None:
    async def slow_to_look(client: Valkey) -> bool:
        await asyncio.sleep(0)
        time.sleep(3 * SECONDS)  # noqa: ASYNC251 - that is the point
        # The answer takes its way through several turns of the loop; the timer is due in the first.
        for _ in range(10):
            await asyncio.sleep(0)
        return True

    assert await guard.call(slow_to_look, seconds=SECONDS)


async def test_a_caller_that_goes_away_takes_its_call_along(guard: ValkeyGuard, proxy: Proxy) -> None:
    proxy.mode = Mode.HANG
    caller = asyncio.create_task(guard.call(ping, seconds=60))
    while not proxy.accepted:
        await asyncio.sleep(0.001)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    proxy.mode = Mode.PASS
    assert not await fails(guard)


@pytest.mark.parametrize("facts", [b"$-1\r\n", b":1\r\n", b"$4\r\na:b\n\r\n", b"-NOPERM no\r\n"])
async def test_a_server_that_does_not_tell_which_it_is_serves_all_but_what_needs_that(facts: bytes) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                count = int((await reader.readuntil(b"\n"))[1:])
                words = [
                    (await reader.readuntil(b"\n"), await reader.readuntil(b"\n"))[1] for _ in range(count)
                ]
                known = {b"PING\r\n": b"+PONG\r\n", b"INFO\r\n": facts}
                writer.write(known.get(words[0], b"+OK\r\n"))
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with make_valkey(Settings(valkey_url=f"valkey://127.0.0.1:{port}")) as client:
            for _ in range(2):
                with pytest.raises(ValkeyError, match="run id"):
                    await execute_on_run(client, lambda run: ("GET", run))
                assert await client.ping()

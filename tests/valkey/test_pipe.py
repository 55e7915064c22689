"""Many commands at once over one connection: in step, in time, and without those who have left."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import pytest
from valkey.asyncio import Valkey

from chitram.platform.settings import Settings
from chitram.platform.valkey import ValkeyGuard, ValkeyUnavailable, make_valkey
from tests.support.proxy import Mode, Proxy

SECONDS = 0.05
PATIENT = 60.0
OPEN_SECONDS = 0.2


@pytest.fixture
async def sent() -> list[bytes]:
    return []


@pytest.fixture
async def proxy(valkey_url: str, sent: list[bytes]) -> AsyncIterator[Proxy]:
    async with Proxy(valkey_url, watch=sent.append) as relay:
        yield relay


@pytest.fixture
async def client(proxy: Proxy) -> AsyncIterator[Valkey]:
    made = make_valkey(Settings(valkey_url=proxy.url))
    yield made
    await made.aclose()


@pytest.fixture
def guard(client: Valkey) -> ValkeyGuard:
    return ValkeyGuard(client, open_seconds=OPEN_SECONDS)


async def echoes(guard: ValkeyGuard, text: str, seconds: float = PATIENT) -> bytes:
    answer: bytes = await guard.ask_on_run(lambda _: ("ECHO", text), seconds=seconds)
    return answer


async def fails(guard: ValkeyGuard, seconds: float = SECONDS) -> bool:
    try:
        await echoes(guard, "hello", seconds)
    except ValkeyUnavailable:
        return True
    return False


async def test_everyone_gets_their_own_answer_over_one_connection(guard: ValkeyGuard, proxy: Proxy) -> None:
    await echoes(guard, "first")
    asked = [str(number) * (number % 50) for number in range(1000)]
    answers = await asyncio.gather(*(echoes(guard, text) for text in asked))
    assert [answer.decode() for answer in answers] == asked
    assert proxy.accepted == 1


async def test_the_first_to_ask_at_once_share_the_connection_that_is_made(
    guard: ValkeyGuard, proxy: Proxy
) -> None:
    await asyncio.gather(*(echoes(guard, "x") for _ in range(32)))
    # Each has a turn, and one of them connects.
    assert proxy.accepted == 1


async def test_what_is_asked_in_one_turn_leaves_together(guard: ValkeyGuard, sent: list[bytes]) -> None:
    await echoes(guard, "first")
    sent.clear()
    await asyncio.gather(*(echoes(guard, "x") for _ in range(10)))
    assert [piece.count(b"ECHO") for piece in sent] == [10]


async def test_a_command_knows_the_run_of_the_server(guard: ValkeyGuard, client: Valkey) -> None:
    run = (await client.info("server"))["run_id"]
    for _ in range(2):
        assert await guard.ask_on_run(lambda run: ("ECHO", run), seconds=PATIENT) == run.encode()


async def test_one_who_goes_away_changes_no_answer_of_the_others(guard: ValkeyGuard, proxy: Proxy) -> None:
    await echoes(guard, "first")
    asking = [asyncio.create_task(echoes(guard, str(number))) for number in range(10)]
    await asyncio.sleep(0)
    for task in asking[::2]:
        task.cancel()
    answers = await asyncio.gather(*asking, return_exceptions=True)
    assert answers[1::2] == [b"1", b"3", b"5", b"7", b"9"]
    assert all(isinstance(answer, asyncio.CancelledError) for answer in answers[::2])
    assert proxy.accepted == 1


@pytest.mark.parametrize("mode", [Mode.CUT, Mode.HANG])
async def test_all_who_wait_are_told_when_valkey_goes_away_and_it_comes_back_by_itself(
    guard: ValkeyGuard, proxy: Proxy, mode: Mode
) -> None:
    await echoes(guard, "first")
    proxy.mode = mode
    asking = [asyncio.create_task(fails(guard)) for _ in range(100)]
    await asyncio.sleep(0)
    if mode is Mode.CUT:
        proxy.cut_all()
    assert all(await asyncio.gather(*asking))
    # From now on nobody waits.
    asked = proxy.accepted
    assert all(await asyncio.gather(*(fails(guard) for _ in range(100))))
    assert proxy.accepted == asked
    proxy.mode = Mode.PASS
    async with asyncio.timeout(10):
        while await fails(guard):
            await asyncio.sleep(0.01)


async def test_an_idle_connection_that_was_closed_is_made_anew(guard: ValkeyGuard, proxy: Proxy) -> None:
    await echoes(guard, "first")
    pipe = guard._pipe
    assert pipe
    proxy.cut_all()
    async with asyncio.timeout(10):
        while pipe.is_open:
            await asyncio.sleep(0.001)
    assert await echoes(guard, "again") == b"again"
    assert proxy.accepted == 2


async def test_an_answer_that_says_no_counts_as_a_failure(guard: ValkeyGuard) -> None:
    await echoes(guard, "first")
    with pytest.raises(ValkeyUnavailable, match="unknown command"):
        await guard.ask_on_run(lambda _: ("NONSENSE",), seconds=PATIENT)
    assert await fails(guard)


async def test_a_busy_event_loop_is_not_taken_for_a_slow_server(guard: ValkeyGuard) -> None:
    await echoes(guard, "first")
    asking = asyncio.create_task(echoes(guard, "x", SECONDS))
    # It is sent, and its answer lies unread when its time is over.
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    time.sleep(3 * SECONDS)  # noqa: ASYNC251 - that is the point
    assert await asking == b"x"


async def test_a_busy_event_loop_does_not_make_for_endless_patience(guard: ValkeyGuard, proxy: Proxy) -> None:
    await echoes(guard, "first")
    proxy.mode = Mode.HANG
    asking = asyncio.create_task(fails(guard))
    async with asyncio.timeout(10):
        while not asking.done():
            time.sleep(SECONDS)  # noqa: ASYNC251 - as above
            await asyncio.sleep(0)
    assert asking.result()


@pytest.mark.parametrize("nonsense", [b"+OK\r\n+OK\r\n", b"nonsense\r\n"])
async def test_a_server_out_of_step_is_left(nonsense: bytes) -> None:
    known = {
        b"PING\r\n": b"+PONG\r\n",
        b"INFO\r\n": b"$10\r\nrun_id:1\r\n\r\n",
        b"ECHO\r\n": nonsense,
    }

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while True:
                count = int((await reader.readuntil(b"\n"))[1:])
                words = [
                    (await reader.readuntil(b"\n"), await reader.readuntil(b"\n"))[1] for _ in range(count)
                ]
                writer.write(known.get(words[0], b"+OK\r\n"))
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with make_valkey(Settings(valkey_url=f"valkey://127.0.0.1:{port}")) as client:
            guard = ValkeyGuard(client)
            with contextlib.suppress(ValkeyUnavailable):
                assert await echoes(guard, "x") == b"OK"
            pipe = guard._pipe
            assert pipe
            async with asyncio.timeout(10):
                while pipe.is_open:
                    await asyncio.sleep(0.001)

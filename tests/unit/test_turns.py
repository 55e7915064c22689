"""Reads give way: how many begin in a turn of the event loop, and in which order."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from litestar.types import HTTPScope, Message, Receive, Scope, Send

from chitram.platform.http.turns import READS_IN_A_TURN, ReadsGiveWay

MANY = 5 * READS_IN_A_TURN


class Recorder:
    """An application that notes in which turn of the loop each read came; others wait to be let go."""

    def __init__(self) -> None:
        self.turn = 0
        self.begun: list[tuple[int, int]] = []
        self.let_go = asyncio.Event()
        self.layer = ReadsGiveWay(self.answer)

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope = cast("HTTPScope", scope)
        if scope["method"] == "POST":
            await self.let_go.wait()
        elif scope["path"] == "/broken":
            raise RuntimeError
        else:
            self.begun.append((int(scope["path"]), self.turn))

    def request(self, method: str, path: object = "", kind: str = "http") -> asyncio.Task[None]:
        async def respond() -> None:
            scope = cast("HTTPScope", {"type": kind, "method": method, "path": str(path)})
            await self.layer(scope, receive, send)

        return asyncio.create_task(respond())

    async def turns_until(self, *tasks: asyncio.Task[None]) -> None:
        while not all(task.done() for task in tasks):
            self.turn += 1
            await asyncio.sleep(0)

    @property
    def counts(self) -> list[int]:
        """How many reads began in each turn, turns without any left out."""
        turns = [turn for _, turn in self.begun]
        return [turns.count(turn) for turn in sorted(set(turns))]


async def receive() -> Any:
    raise AssertionError


async def send(message: Message) -> None:
    raise AssertionError


async def test_all_begin_at_once_while_nothing_else_goes_on() -> None:
    recorder = Recorder()
    await recorder.turns_until(*[recorder.request("GET", number) for number in range(MANY)])
    assert recorder.counts == [MANY]


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
async def test_few_begin_in_each_turn_beside_an_upload_in_their_order(method: str) -> None:
    recorder = Recorder()
    upload = recorder.request("POST")
    await recorder.turns_until(*[recorder.request(method, number) for number in range(MANY)])
    assert [number for number, _ in recorder.begun] == [*range(MANY)]
    assert recorder.counts == [READS_IN_A_TURN] * 5
    assert not upload.done()
    recorder.let_go.set()
    await upload


async def test_who_comes_later_does_not_overtake() -> None:
    recorder = Recorder()
    upload = recorder.request("POST")
    first = [recorder.request("GET", number) for number in range(MANY)]
    await recorder.turns_until(first[READS_IN_A_TURN])
    late = recorder.request("GET", MANY)
    await recorder.turns_until(*first, late)
    assert recorder.begun[-1][0] == MANY
    recorder.let_go.set()
    await upload


async def test_those_that_wait_go_on_after_the_upload() -> None:
    recorder = Recorder()
    upload = recorder.request("POST")
    reads = [recorder.request("GET", number) for number in range(MANY)]
    recorder.let_go.set()
    await recorder.turns_until(upload, *reads)
    assert len(recorder.begun) == MANY


async def test_clients_that_left_take_no_place() -> None:
    recorder = Recorder()
    upload = recorder.request("POST")
    reads = [recorder.request("GET", number) for number in range(MANY)]
    await recorder.turns_until(reads[0])
    gone = reads[READS_IN_A_TURN : 4 * READS_IN_A_TURN]
    for read in gone:
        read.cancel()
    await recorder.turns_until(*reads)
    kept = [*range(READS_IN_A_TURN), *range(4 * READS_IN_A_TURN, MANY)]
    assert [number for number, _ in recorder.begun] == kept
    assert recorder.counts == [READS_IN_A_TURN] * 2
    recorder.let_go.set()
    await upload


async def test_reads_that_fail_or_come_alone_hold_up_nobody() -> None:
    recorder = Recorder()
    upload = recorder.request("POST")
    broken = [recorder.request("GET", "/broken") for _ in range(MANY + 10)]
    await recorder.turns_until(*broken)
    assert all(isinstance(read.exception(), RuntimeError) for read in broken)
    # After turns in which nobody came, all places are free again.
    for _ in range(3):
        await asyncio.sleep(0)
    await recorder.turns_until(*[recorder.request("GET", number) for number in range(READS_IN_A_TURN)])
    assert recorder.counts == [READS_IN_A_TURN]
    recorder.let_go.set()
    await upload


async def test_an_upload_that_is_given_up_and_the_life_of_the_server_do_not_count() -> None:
    recorder = Recorder()
    life, upload = recorder.request("POST", kind="lifespan"), recorder.request("POST")
    await asyncio.sleep(0)
    upload.cancel()
    await recorder.turns_until(upload)
    await recorder.turns_until(*[recorder.request("GET", number) for number in range(MANY)])
    assert recorder.counts == [MANY]
    recorder.let_go.set()
    await life

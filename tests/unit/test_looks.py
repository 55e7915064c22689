"""Waiting in looks, on a loop that is held up and on one that is not."""

from __future__ import annotations

import asyncio
import time

import pytest

from chitram.platform.looks import LOOK_SECONDS, Looks, finishes

SECONDS = 0.04


async def held_up(steps: int) -> None:
    """Take so many steps of the loop, each of which is held up for longer than a look."""
    for _ in range(steps):
        time.sleep(0.012)  # noqa: ASYNC251 - what it shows is a loop that is blocked
        await asyncio.sleep(0)


async def test_looks_that_come_late_count_less() -> None:
    # Six times as long as what is asked for.
    assert await finishes(asyncio.create_task(held_up(20)), SECONDS)
    endless = asyncio.create_task(held_up(1000))
    assert not await finishes(endless, SECONDS)
    endless.cancel()


async def test_who_never_answers_is_given_up_and_not_before_what_was_asked() -> None:
    never = asyncio.get_running_loop().create_future()
    began = time.monotonic()
    async with asyncio.timeout(10):
        assert not await finishes(never, SECONDS)
    assert time.monotonic() - began >= SECONDS
    assert not never.cancelled()


@pytest.mark.parametrize(
    ("seconds", "took", "enough"), [(0.04, LOOK_SECONDS, 9), (0.04, 0.02, 13), (0.001, LOOK_SECONDS, 2)]
)
def test_how_many_looks_are_enough(seconds: float, took: float, enough: int) -> None:
    looks = Looks()
    # What was before one begins to wait does not count.
    for _ in range(5):
        looks.count(took)
    limit = looks.limit(seconds)
    for _ in range(enough - 1):
        looks.count(took)
        assert not looks.are_enough(limit)
    looks.count(took)
    assert looks.are_enough(limit)

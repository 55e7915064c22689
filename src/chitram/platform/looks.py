"""Waiting for an answer of a server while the event loop may be held up.

A timer alone cannot tell a slow server from a busy process, whose answer has come and lies unread.
So waiting is counted in short looks. One that comes late says nothing of the server, and counts less.
"""

from __future__ import annotations

import asyncio
import math
import time
from typing import Any, NamedTuple

LOOK_SECONDS = 0.005
# A look that took longer came late.
_LATE_SECONDS = 0.010
# Measured on a loop that was always late: a round trip took 3 looks, and 6 when it was two.
_LATE_FOR_EACH = 1.5


class Limit(NamedTuple):
    """How many looks are enough."""

    on_time: int
    late: int


class Looks:
    """Counts the looks of those who wait together."""

    def __init__(self) -> None:
        self._on_time = self._late = 0

    def count(self, took: float) -> None:
        """One look, and how many seconds it took."""
        if took < _LATE_SECONDS:
            self._on_time += 1
        else:
            self._late += 1

    def limit(self, seconds: float) -> Limit:
        """When it is enough for one who has just begun to wait, and wants to for `seconds`."""
        needed = math.ceil(seconds / LOOK_SECONDS)
        # One more, as one that is under way may have begun before.
        return Limit(self._on_time + needed + 1, self._late + math.ceil(needed * _LATE_FOR_EACH) + 1)

    def are_enough(self, limit: Limit) -> bool:
        return self._on_time >= limit.on_time or self._late >= limit.late


async def finishes(task: asyncio.Future[Any], seconds: float) -> bool:
    """Wait for a task, for `seconds` or, where the event loop is held up, for longer; whether it is done.

    `asyncio.timeout` would cancel it also when its answer came in the very moment of the timer.
    """
    looks = Looks()
    limit = looks.limit(seconds)
    while not looks.are_enough(limit):
        began = time.monotonic()
        done, _ = await asyncio.wait((task,), timeout=LOOK_SECONDS)
        if done:
            return True
        looks.count(time.monotonic() - began)
    return False

"""The cache epoch: a number in PostgreSQL that is part of every key of the shared cache.

Raising it makes all that was remembered unreadable, when Valkey could not be told of a change.
"""

from __future__ import annotations

import asyncio
import time
from typing import NewType, Protocol

import asyncpg

from chitram.platform.statements import Statement, Statements

# Nothing may be answered from longer than a second after it was true; the rest is a margin.
FRESH_SECONDS = 0.9

_READ = Statement("read_epoch", "SELECT epoch FROM cache_epoch")
_RAISE = Statement("raise_epoch", "UPDATE cache_epoch SET epoch = epoch + 1 RETURNING epoch")
EPOCH_STATEMENTS = (_READ, _RAISE)


class Epochs(Protocol):
    """The epoch on the primary. Both raise `DatabaseUnavailable`."""

    async def read(self) -> int: ...

    async def raise_epoch(self) -> int:
        """Raise it by one; what is returned has been committed."""
        ...


class PostgresEpochs:
    """The one row of `cache_epoch`, over a connection that waits behind nothing else.

    One round trip, because a reading is as old as its beginning, and the event loop may be busy.

    Args:
        statements: know `EPOCH_STATEMENTS`.
    """

    def __init__(self, statements: Statements) -> None:
        self._statements = statements

    async def read(self) -> int:
        return _epoch_of(await self._statements.read(_READ))

    async def raise_epoch(self) -> int:
        return _epoch_of(await self._statements.commit(_RAISE))


def _epoch_of(row: asyncpg.Record | None) -> int:
    if row is None:
        raise AssertionError("a migration puts the row there, and nothing removes it")
    epoch: int = row["epoch"]
    return epoch


class KnownEpoch:
    """The epoch as this process last read it; never falls."""

    def __init__(self, epochs: Epochs) -> None:
        self._epochs = epochs
        self._epoch = 0
        self._read_at = float("-inf")
        self._learned_at = float("-inf")
        # How many raises were owed so far, and up to which of them it has been raised since.
        self._owed = self._settled = 0

    @property
    def latest(self) -> int:
        """The latest that is known, however long ago it was read; 0 before the first."""
        return self._epoch

    def reading(self, now: float) -> tuple[int, float] | None:
        """The epoch and when its reading began; None when that is nothing to rely on."""
        if self._settled < self._owed or now >= self._read_at + FRESH_SECONDS:
            return None
        return self._epoch, self._read_at

    def owe_raise(self) -> None:
        """Rely on no reading until it has been raised, which the next reading tries to do."""
        self._owed += 1

    async def known_everywhere(self) -> None:
        """Wait until no process relies on an earlier epoch than the latest that is known here."""
        # It was raised before this process learned of it, and who had read it before that may rely
        # on the reading for so long.
        await asyncio.sleep(self._learned_at + FRESH_SECONDS - time.monotonic())

    async def read(self) -> int:
        """Read it again, or raise it where that is owed, and return it. Raises `DatabaseUnavailable`."""
        if self._settled < self._owed:
            return await self.raise_epoch()
        began = time.monotonic()
        return self._learn(await self._epochs.read(), began)

    async def raise_epoch(self) -> int:
        """Raise it and return it. Raises `DatabaseUnavailable`."""
        began, owed = time.monotonic(), self._owed
        epoch = self._learn(await self._epochs.raise_epoch(), began)
        self._settled = max(self._settled, owed)
        return epoch

    def _learn(self, epoch: int, began: float) -> int:
        if epoch > self._epoch:
            self._epoch, self._learned_at = epoch, time.monotonic()
        self._read_at = max(self._read_at, began)
        return self._epoch


# One that is read again all the time, as readers need it.
WatchedEpoch = NewType("WatchedEpoch", KnownEpoch)
# Well within the time for which a reading may be relied on.
WATCH_SECONDS = 0.25

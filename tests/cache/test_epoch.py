"""The epoch in memory and the epoch in PostgreSQL behave the same."""

from __future__ import annotations

import asyncio
import time

import pytest

from chitram.kernel.errors import DatabaseUnavailable
from chitram.platform.shared_cache.epoch import FRESH_SECONDS, Epochs, KnownEpoch, PostgresEpochs
from tests.support.caches import FakeEpochs
from tests.support.database import Database


@pytest.fixture(params=["memory", "postgres"])
def any_epochs(request: pytest.FixtureRequest) -> Epochs:
    if request.param == "memory":
        return FakeEpochs()
    database: Database = request.getfixturevalue("database")
    return PostgresEpochs(database.statements)


async def test_every_raise_gives_a_number_of_its_own(any_epochs: Epochs) -> None:
    first = await any_epochs.read()
    raised = await asyncio.gather(*(any_epochs.raise_epoch() for _ in range(10)))
    assert sorted(raised) == list(range(first + 1, first + 11))
    assert await any_epochs.read() == first + 10


async def test_a_reading_holds_for_less_than_a_second_from_its_beginning() -> None:
    known = KnownEpoch(FakeEpochs())
    assert known.reading(time.monotonic()) is None
    before = time.monotonic()
    await known.read()
    epoch, began = known.reading(time.monotonic()) or (0, 0.0)
    assert epoch == 1
    assert before <= began <= time.monotonic()
    assert known.reading(began + FRESH_SECONDS) is None


async def test_what_is_known_never_falls() -> None:
    epochs = FakeEpochs()
    known = KnownEpoch(epochs)
    assert await known.raise_epoch() == 2
    epochs.epoch = 1
    assert await known.read() == 2


async def test_an_epoch_that_cannot_be_read_stays_what_it_was() -> None:
    epochs = FakeEpochs()
    known = KnownEpoch(epochs)
    await known.read()
    epochs.away = True
    with pytest.raises(DatabaseUnavailable):
        await known.read()
    assert known.latest == 1

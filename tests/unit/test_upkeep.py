"""Remaking by recipe, and the nightly scan, among fakes."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from chitram.images.domain.rendition import Processing, RenditionSort
from chitram.images.domain.work import BLOB_ID, MAKE_RENDITIONS, OPTIMISE, REMAKE_RENDITIONS, REOPTIMISE
from chitram.images.use_cases.remake_renditions import RemakeRenditions
from chitram.images.use_cases.renditions import RenditionCommand
from chitram.images.use_cases.scan_integrity import ScanIntegrity, ScanRules
from chitram.images.use_cases.verify_blob import VerifyBlob
from chitram.kernel.errors import StorageUnavailable
from tests.support.fakes import FakeCatalogue
from tests.unit.test_renditions import MakingHouse


class UpkeepHouse(MakingHouse):
    def __init__(self, nights: int = 1) -> None:
        super().__init__()
        self.remake = RemakeRenditions(self.database)
        verify = VerifyBlob(self.database, self.store, self.clock)
        catalogue = FakeCatalogue(self.database)
        self.scan = ScanIntegrity(
            self.database, catalogue, self.store, verify, self.damage, ScanRules(nights)
        )

    async def ready(self, content: bytes = b"picture") -> UUID:
        uploaded = await self.take(content)
        await self.make(self.command(MAKE_RENDITIONS))
        await self.optimise(self.command(OPTIMISE))
        return uploaded.blob.id

    def verified(self, blob_ids: Iterable[UUID]) -> list[bool]:
        times = [self.database.tables.verified.get(blob_id, (None,))[0] for blob_id in blob_ids]
        return [time == self.clock.now() for time in times]


async def test_what_is_in_order_is_not_made_again() -> None:
    house = UpkeepHouse()
    await house.ready()
    assert await house.remake() == 0
    assert house.kinds_owed() == []


async def test_thumbnails_of_an_older_recipe_are_owed_once_and_are_shown_until_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    house = UpkeepHouse()
    blob_id = await house.ready()
    monkeypatch.setattr(
        "chitram.images.domain.rendition.THUMBNAILS_RECIPE", RenditionSort.THUMBNAILS.recipe + 1
    )
    assert [await house.remake(), await house.remake()] == [1, 0]
    assert house.kinds_owed() == [REMAKE_RENDITIONS]
    assert house.database.tables.blobs[blob_id].processing is Processing.READY
    await house.make(house.command(REMAKE_RENDITIONS))
    assert await house.remake() == 0


async def test_what_nobody_waits_for_does_not_hold_up_the_optimising_of_what_is_new(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    house = UpkeepHouse()
    await house.ready()
    monkeypatch.setattr("chitram.images.domain.rendition.OPTIMISED_RECIPE", 2)
    assert [await house.remake(), await house.remake()] == [1, 0]
    assert house.kinds_owed() == [REOPTIMISE]
    old = (await house.take(b"from before there were renditions")).blob.id
    house.database.tables.outbox.clear()
    await house.make(RenditionCommand(uuid4(), old, is_remake=True))
    assert house.kinds_owed() == [REOPTIMISE]


async def test_a_blob_that_has_nothing_and_owes_nothing_is_found() -> None:
    house = UpkeepHouse()
    await house.take()
    assert await house.remake() == 0
    house.database.tables.outbox.clear()
    assert await house.remake() == 1
    await house.make(house.command(REMAKE_RENDITIONS))
    house.database.tables.outbox.clear()
    assert await house.remake() == 1
    assert house.kinds_owed() == [REOPTIMISE]


async def test_what_was_given_up_is_not_tried_again_by_the_same_recipe() -> None:
    house = UpkeepHouse()
    uploaded = await house.take()
    house.database.tables.outbox.clear()
    await house.give_up(uploaded.blob.id, RenditionSort.THUMBNAILS)
    assert await house.remake() == 0


async def test_goes_through_all_blobs_round_by_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chitram.images.use_cases.remake_renditions._BATCH", 2)
    house = UpkeepHouse()
    for number in range(5):
        await house.take(b"%d" % number)
    house.database.tables.outbox.clear()
    assert [await house.remake() for _ in range(4)] == [2, 2, 1, 0]
    assert len({payload[BLOB_ID] for payload in house.owed(REMAKE_RENDITIONS).values()}) == 5


async def test_reads_a_nights_share_those_first_that_were_not_read_for_longest() -> None:
    house = UpkeepHouse(nights=2)
    blob_ids = sorted([(await house.take(b"%d" % number)).blob.id for number in range(5)])
    house.database.tables.verified[blob_ids[1]] = (datetime(2026, 1, 1, tzinfo=UTC), None)
    assert await house.scan() == 0
    assert house.verified(blob_ids) == [True, False, True, True, False]
    house.clock.advance(days=1)
    await house.scan()
    assert house.verified(blob_ids)[1::3] == [True, True]


@pytest.mark.parametrize("stored", [b"something else", None], ids=["changed", "missing"])
async def test_tells_of_damage_and_keeps_since_when(stored: bytes | None) -> None:
    house = UpkeepHouse()
    good, bad = await house.take(b"good"), await house.take(b"bad")
    del house.store.objects[bad.blob.id]
    if stored is not None:
        house.store.objects[bad.blob.id] = stored
    first = house.clock.now()
    assert await house.scan() == 1
    house.clock.advance(days=1)
    assert await house.scan() == 1
    assert house.database.tables.verified[bad.blob.id] == (house.clock.now(), first)
    assert house.database.tables.verified[good.blob.id] == (house.clock.now(), None)
    assert [blob_id for blob_id, _ in house.damage.reports] == [bad.blob.id] * 2


async def test_a_store_that_is_away_says_nothing_of_its_blobs() -> None:
    house = UpkeepHouse()
    await house.take()
    house.store.error = StorageUnavailable()
    assert await house.scan() == 0
    assert house.database.tables.verified == {}
    assert house.damage.reports == []


async def test_scans_nothing_when_there_is_nothing() -> None:
    assert await UpkeepHouse().scan() == 0

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from chitram.images.domain.errors import CorruptImage
from chitram.images.use_cases.backfill_dimensions import BackfillDimensions
from chitram.images.use_cases.reconcile_store import EmptyDatabase, ReconcileCommand, ReconcileStore
from tests.support.fakes import COPIES, FakeCaches, FakeCatalogue
from tests.unit.test_upload_image import House

HOUR = timedelta(hours=1)


class ReconcilingHouse(House):
    def __init__(self) -> None:
        super().__init__()
        self.catalogue = FakeCatalogue(self.database)
        self.reconcile = ReconcileStore(self.database, self.catalogue, self.store, self.clock, COPIES)
        self.caches = FakeCaches()
        self.backfill = BackfillDimensions(self.database, self.store, self.inspector, self.caches)

    async def orphan(self) -> UUID:
        orphan = uuid4()
        await self.store.put(orphan, self.store.shard, [b"lost"], 4, "image/jpeg")
        return orphan


async def test_only_counts_orphans_unless_told_to_remove_them() -> None:
    house = ReconcilingHouse()
    kept = await house.take()
    orphan = await house.orphan()
    house.clock.advance(hours=2)
    report = await house.reconcile(ReconcileCommand(HOUR))
    assert (report.objects, report.orphans, report.removed) == (2, 1, 0)
    assert set(house.store.objects) == {kept.blob.id, orphan}


async def test_removes_old_orphans_and_unfinished_writes() -> None:
    house = ReconcilingHouse()
    kept = await house.take()
    await house.orphan()
    house.store.unfinished = 3
    house.clock.advance(hours=2)
    report = await house.reconcile(ReconcileCommand(HOUR, apply=True))
    assert (report.orphans, report.removed, report.unfinished) == (1, 1, 3)
    assert set(house.store.objects) == {kept.blob.id}


async def test_an_empty_database_is_not_believed_unless_forced() -> None:
    house = ReconcilingHouse()
    await house.orphan()
    house.clock.advance(hours=2)
    with pytest.raises(EmptyDatabase):
        await house.reconcile(ReconcileCommand(HOUR, apply=True))
    assert len(house.store.objects) == 1
    report = await house.reconcile(ReconcileCommand(HOUR, apply=True, force=True))
    assert report.removed == 1
    assert house.store.objects == {}


async def test_leaves_young_orphans_alone() -> None:
    house = ReconcilingHouse()
    orphan = await house.orphan()
    report = await house.reconcile(ReconcileCommand(HOUR, apply=True, force=True))
    assert report.orphans == 0
    assert set(house.store.objects) == {orphan}


async def test_spares_an_object_whose_row_comes_after_the_first_look() -> None:
    house = ReconcilingHouse()
    uploaded = await house.take()
    known = house.catalogue.known
    looks = 0

    async def late(blob_ids: object) -> Mapping[UUID, str]:
        nonlocal looks
        looks += 1
        return {} if looks == 1 else await known([uploaded.blob.id])

    house.catalogue.known = late  # type: ignore[method-assign] # the race itself
    house.clock.advance(hours=2)
    report = await house.reconcile(ReconcileCommand(HOUR, apply=True))
    assert report.removed == 0
    assert set(house.store.objects) == {uploaded.blob.id}


async def test_judges_many_objects_in_batches() -> None:
    house = ReconcilingHouse()
    for _ in range(1001):
        await house.orphan()
    house.clock.advance(hours=2)
    report = await house.reconcile(ReconcileCommand(HOUR, apply=True, force=True))
    assert report.removed == 1001
    assert house.store.objects == {}


async def test_reports_rows_whose_object_is_missing_or_of_another_size() -> None:
    house = ReconcilingHouse()
    whole = await house.take(b"whole")
    missing = await house.take(b"missing")
    cut = await house.take(b"cut short")
    del house.store.objects[missing.blob.id]
    house.store.objects[cut.blob.id] = b"cut"
    report = await house.reconcile(ReconcileCommand(HOUR))
    assert sorted(report.missing) == sorted([missing.blob.id, cut.blob.id])
    assert whole.blob.id not in report.missing


async def test_backfill_fills_what_is_missing_and_passes_over_what_cannot_be_read() -> None:
    house = ReconcilingHouse()
    good, gone = await house.take(b"good"), await house.take(b"gone")
    tables = house.database.tables
    for blob_id in (good.blob.id, gone.blob.id):
        tables.blobs[blob_id] = replace(tables.blobs[blob_id], width=None, height=None)
    del house.store.objects[gone.blob.id]
    assert await house.backfill() == 1
    assert house.caches.all_invalidated == 1
    assert house.database.tables.blobs[good.blob.id].width == 4
    assert house.database.tables.blobs[gone.blob.id].width is None


async def test_backfill_leaves_null_what_turns_out_to_be_corrupt() -> None:
    house = ReconcilingHouse()
    uploaded = await house.take()
    tables = house.database.tables
    tables.blobs[uploaded.blob.id] = replace(tables.blobs[uploaded.blob.id], width=None, height=None)
    house.inspector.error = CorruptImage()
    assert await house.backfill() == 0
    assert house.caches.all_invalidated == 0

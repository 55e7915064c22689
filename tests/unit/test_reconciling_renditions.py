from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from chitram.images.domain.keys import rendition_name
from chitram.images.domain.rendition import RenditionKind, RenditionSort
from chitram.images.domain.work import (
    BLOB_ID,
    CLEAR_RENDITIONS,
    DROP_RENDITIONS,
    MAKE_RENDITIONS,
    NAMES,
    OPTIMISE,
    REMAKE_RENDITIONS,
    REOPTIMISE,
    SHARD,
)
from chitram.images.use_cases.reconcile_store import ReconcileCommand, ReconcileStore
from chitram.images.use_cases.renditions import RenditionCommand
from tests.support.fakes import COPIES, FakeCatalogue
from tests.unit.test_renditions import MakingHouse

HOUR = timedelta(hours=1)
APPLY = ReconcileCommand(HOUR, apply=True)


class ReconcilingHouse(MakingHouse):
    def __init__(self) -> None:
        super().__init__()
        catalogue = FakeCatalogue(self.database)
        self.reconcile = ReconcileStore(self.database, catalogue, self.store, self.clock, COPIES)

    async def ready(self, content: bytes = b"picture") -> UUID:
        """A blob of which all renditions are made, long ago."""
        uploaded = await self.take(content)
        await self.make(self.command(MAKE_RENDITIONS))
        await self.optimise(self.command(OPTIMISE))
        self.clock.advance(hours=2)
        return uploaded.blob.id

    async def owe(self, kind: str, blob_id: UUID) -> None:
        async with self.database.begin() as transaction:
            payload = {BLOB_ID: str(blob_id), SHARD: self.store.shard, NAMES: "small-0"}
            await transaction.outbox.add(kind, payload)
            await transaction.commit()

    def put(self, blob_id: UUID, name: str) -> None:
        self.store.made[blob_id, name] = b"left over"
        self.store.made_at[blob_id, name] = self.clock.now() - 2 * HOUR


async def test_what_rows_name_is_in_order() -> None:
    house = ReconcilingHouse()
    await house.ready()
    report = await house.reconcile(APPLY)
    assert (report.objects, report.orphans, report.lacking) == (6, 0, [])
    assert house.kinds_owed() == []


async def test_renditions_of_a_blob_without_a_row_are_orphans() -> None:
    house = ReconcilingHouse()
    blob_id, other = await house.ready(), UUID(int=7)
    house.put(other, "small-1")
    report = await house.reconcile(APPLY)
    assert (report.orphans, report.removed) == (1, 1)
    assert {key for key, _ in house.store.made} == {blob_id}


async def test_renditions_that_no_row_names_are_orphans_unless_somebody_sees_to_them() -> None:
    house = ReconcilingHouse()
    blob_id = await house.ready()
    house.put(blob_id, "small-0")
    counted = await house.reconcile(ReconcileCommand(HOUR))
    assert (counted.orphans, counted.removed) == (1, 0)
    for kind in (CLEAR_RENDITIONS, DROP_RENDITIONS):
        await house.owe(kind, blob_id)
        assert (await house.reconcile(APPLY)).orphans == 0
        await house.run_drops(kind)
        house.put(blob_id, "small-0")
    report = await house.reconcile(APPLY)
    assert (report.orphans, report.removed) == (1, 1)
    assert (blob_id, "small-0") not in house.store.made


async def test_young_renditions_are_left_alone() -> None:
    house = ReconcilingHouse()
    blob_id = await house.ready()
    house.put(blob_id, "small-0")
    house.store.made_at[blob_id, "small-0"] = house.clock.now()
    assert (await house.reconcile(APPLY)).orphans == 0


async def test_thumbnails_that_are_gone_are_made_again() -> None:
    house = ReconcilingHouse()
    blob_id = await house.ready()
    medium = rendition_name(RenditionKind.MEDIUM, RenditionSort.THUMBNAILS.recipe)
    del house.store.made[blob_id, medium]
    assert (await house.reconcile(ReconcileCommand(HOUR))).lacking == [blob_id]
    assert house.kinds_owed() == []
    assert (await house.reconcile(APPLY)).lacking == [blob_id]
    await house.reconcile(APPLY)
    assert house.kinds_owed() == [REMAKE_RENDITIONS]
    await house.make(house.command(REMAKE_RENDITIONS))
    assert (blob_id, medium) in house.store.made
    assert house.kinds_owed() == []
    assert (await house.reconcile(APPLY)).lacking == []


async def test_optimised_renditions_that_were_cut_are_made_again() -> None:
    house = ReconcilingHouse()
    blob_id = await house.ready()
    house.store.made[blob_id, "optimised-1"] = b"cut"
    assert (await house.reconcile(APPLY)).lacking == [blob_id]
    await house.optimise(house.command(REOPTIMISE))
    assert house.store.made[blob_id, "optimised-1"] != b"cut"
    assert (await house.reconcile(APPLY)).lacking == []


async def test_renditions_that_are_replaced_while_it_looks_are_not_lacking() -> None:
    house = ReconcilingHouse()
    blob_id = await house.ready()
    stored = house.store.renditions
    looks = 0

    async def replaced(blob_id: UUID, shard: str) -> dict[str, int]:
        nonlocal looks
        looks += 1
        if looks == 1:
            house.change(blob_id, optimised_recipe=None)
            house.renderer.worth = (RenditionKind.OPTIMISED,)
            await house.optimise(RenditionCommand(UUID(int=1), blob_id))
            house.store.made.pop((blob_id, "optimised_webp-1"))
        return dict(await stored(blob_id, shard))

    house.store.renditions = replaced  # type: ignore[method-assign] # the race itself
    assert (await house.reconcile(APPLY)).lacking == []
    assert house.database.tables.blobs[blob_id].optimised_recipe == RenditionSort.OPTIMISED.recipe

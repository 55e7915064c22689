"""Compare the object stores with the rows, both ways."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

import msgspec

from chitram.images.ports import BlobCatalogue, BlobStore, StoredObject
from chitram.kernel.clock import Clock
from chitram.kernel.errors import Category, ChitramError

_BATCH = 500


class ReconcileCommand(msgspec.Struct, frozen=True):
    """Remove orphans older than `grace`, or with `apply` false only count them.

    `force` removes them also when the database knows no blob at all.
    """

    grace: timedelta
    apply: bool = False
    force: bool = False


class EmptyDatabase(ChitramError):
    """Nothing may be removed: more likely this is the wrong database than an empty one."""

    code = "EMPTY_DATABASE"
    category = Category.CONFLICT
    default_message = (
        "The database knows no image at all. If it is the right one, --force removes every object."
    )


class ReconcileReport(msgspec.Struct):
    """What was found.

    Attributes:
        objects: objects seen.
        orphans: objects, older than the grace time, that no row knows.
        removed: orphans that were removed.
        unfinished: remains of interrupted writes that were removed.
        missing: live blobs whose object is gone or has another size.
    """

    objects: int = 0
    orphans: int = 0
    removed: int = 0
    unfinished: int = 0
    missing: list[UUID] = []


class ReconcileStore:
    """Run by an administrator, while the service runs.

    Objects are listed before rows are read, and a commit refuses blob ids older than half of the
    grace time, so an upload under way is never taken for an orphan.
    """

    def __init__(self, catalogue: BlobCatalogue, blobs: BlobStore, clock: Clock) -> None:
        self._catalogue = catalogue
        self._blobs = blobs
        self._clock = clock

    async def __call__(self, command: ReconcileCommand) -> ReconcileReport:
        """Compare. Raises `EmptyDatabase` rather than take every object for an orphan."""
        report = ReconcileReport()
        if command.apply and not command.force and not await self._knows_any():
            raise EmptyDatabase
        await self._remove_orphans(command, report)
        await self._find_missing(report)
        return report

    async def _knows_any(self) -> bool:
        async for _ in self._catalogue.live():
            return True
        return False

    async def _remove_orphans(self, command: ReconcileCommand, report: ReconcileReport) -> None:
        oldest_safe = self._clock.now() - command.grace
        batch: list[StoredObject] = []
        async for found in self._blobs.list():
            report.objects += 1
            if found.modified <= oldest_safe:
                batch.append(found)
            if len(batch) >= _BATCH:
                await self._judge(batch, command, report)
                batch = []
        await self._judge(batch, command, report)
        if command.apply:
            report.unfinished = await self._blobs.remove_unfinished(oldest_safe)

    async def _judge(
        self, batch: Sequence[StoredObject], command: ReconcileCommand, report: ReconcileReport
    ) -> None:
        known = await self._catalogue.known([found.blob_id for found in batch])
        orphans = [found for found in batch if found.blob_id not in known]
        report.orphans += len(orphans)
        if not command.apply:
            return
        for orphan in orphans:
            # Once more, just before: a listing of many objects takes its time.
            if not await self._catalogue.known([orphan.blob_id]):
                await self._blobs.delete(orphan.blob_id, orphan.shard)
                report.removed += 1

    async def _find_missing(self, report: ReconcileReport) -> None:
        async for blob in self._catalogue.live():
            size = await self._blobs.size(blob.id, blob.shard)
            if size != blob.byte_size and await self._catalogue.is_live(blob.id):
                report.missing.append(blob.id)

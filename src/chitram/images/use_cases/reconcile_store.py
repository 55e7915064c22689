"""Compare the object stores with the rows, both ways."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

import msgspec

from chitram.images.domain.image import Blob
from chitram.images.domain.work import DROP_COPY
from chitram.images.ports import BlobCatalogue, BlobStore, StoredObject, Transactions
from chitram.images.use_cases.copies import CopyRules, copy_of, owe_drop
from chitram.images.use_cases.reconcile_renditions import ReconcileRenditions
from chitram.kernel.clock import Clock
from chitram.kernel.errors import Category, ChitramError

_BATCH = 500


class ReconcileCommand(msgspec.Struct, frozen=True):
    """Remove orphans and strays older than `grace`, or with `apply` false only count them.

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
        orphans: objects, older than the grace time, that no row knows and nobody sees to.
        removed: orphans that were removed.
        strays: objects, older than the grace time, in another store than their row names, whose removal
            is not owed yet; with `apply` it is owed from now on.
        unfinished: remains of interrupted writes that were removed.
        missing: live blobs whose object is gone or has another size.
        lacking: live blobs of whose renditions that is true; with `apply` they are made again.
    """

    objects: int = 0
    orphans: int = 0
    removed: int = 0
    strays: int = 0
    unfinished: int = 0
    missing: list[UUID] = []
    lacking: list[UUID] = []


class ReconcileStore:
    """Run by an administrator, while the service runs.

    Objects are listed before rows are read, and a commit refuses blob ids older than half of the
    grace time, so an upload under way is never taken for an orphan. A stray is left by a move that
    was cut off. Another move may be about to make it the object, so its removal is left to the outbox.
    """

    def __init__(
        self,
        transactions: Transactions,
        catalogue: BlobCatalogue,
        blobs: BlobStore,
        clock: Clock,
        copies: CopyRules,
    ) -> None:
        self._transactions = transactions
        self._copies = copies
        self._catalogue = catalogue
        self._blobs = blobs
        self._renditions = ReconcileRenditions(transactions, catalogue, blobs)
        self._clock = clock

    async def __call__(self, command: ReconcileCommand) -> ReconcileReport:
        """Compare. Raises `EmptyDatabase` rather than take every object for an orphan."""
        report = ReconcileReport()
        if command.apply and not command.force and not await self._knows_any():
            raise EmptyDatabase
        await self._remove_orphans(command, report)
        await self._find_missing(command, report)
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
        for found in batch:
            if known.get(found.blob_id, found.shard) != found.shard:
                await self._judge_stray(found, command, report)
        settled = [found for found in batch if known.get(found.blob_id) == found.shard]
        unwanted = await self._renditions.unwanted(settled, apply=command.apply)
        report.orphans += unwanted
        report.removed += unwanted if command.apply else 0
        if not command.apply:
            return
        for orphan in orphans:
            # Once more, just before: a listing of many objects takes its time.
            if not await self._catalogue.known([orphan.blob_id]):
                await self._remove(orphan)
                report.removed += 1

    async def _remove(self, found: StoredObject) -> None:
        if found.rendition:
            await self._blobs.delete_rendition(found.blob_id, found.rendition, found.shard)
        else:
            await self._blobs.delete(found.blob_id, found.shard)

    async def _judge_stray(
        self, found: StoredObject, command: ReconcileCommand, report: ReconcileReport
    ) -> None:
        async with self._transactions.begin() as transaction:
            locked = await transaction.blobs.lock(found.blob_id)
            if locked is None or locked.shard == found.shard:
                return
            if await transaction.outbox.owes(copy_of(found.blob_id, found.shard), DROP_COPY):
                return
            report.strays += 1
            if command.apply:
                await owe_drop(transaction, found.blob_id, found.shard, self._copies)
                await transaction.commit()

    async def _find_missing(self, command: ReconcileCommand, report: ReconcileReport) -> None:
        batch: list[Blob] = []
        async for blob in self._catalogue.live():
            if await self._is_missing(blob):
                report.missing.append(blob.id)
            batch.append(blob)
            if len(batch) >= _BATCH:
                report.lacking += await self._renditions.lacking(batch, apply=command.apply)
                batch = []
        report.lacking += await self._renditions.lacking(batch, apply=command.apply)

    async def _is_missing(self, blob: Blob) -> bool:
        """Whether a live blob has no whole object, wherever it was moved since its row was read."""
        shard: str | None = blob.shard
        while shard is not None and await self._blobs.size(blob.id, shard) != blob.byte_size:
            looked_in, shard = shard, (await self._catalogue.known([blob.id])).get(blob.id)
            if shard == looked_in:
                return await self._catalogue.is_live(blob.id)
        return False

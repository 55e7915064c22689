"""Compare the renditions in the object stores with the rows, both ways."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

from chitram.images.domain.image import Blob, BlobState
from chitram.images.domain.keys import rendition_name
from chitram.images.domain.rendition import RenditionSort
from chitram.images.domain.work import CLEAR_RENDITIONS, DROP_RENDITIONS
from chitram.images.ports import BlobCatalogue, BlobStore, ImagesUnitOfWork, StoredObject, Transactions
from chitram.images.use_cases.copies import copy_of
from chitram.images.use_cases.owing import lack_renditions


class ReconcileRenditions:
    """What `ReconcileStore` does about renditions."""

    def __init__(self, transactions: Transactions, catalogue: BlobCatalogue, blobs: BlobStore) -> None:
        self._transactions = transactions
        self._catalogue = catalogue
        self._blobs = blobs

    async def unwanted(self, objects: Sequence[StoredObject], *, apply: bool) -> int:
        """Remove renditions that no row of their blob names and nobody sees to; say how many."""
        renditions = [(found, found.rendition) for found in objects if found.rendition is not None]
        named = await self._catalogue.renditions([found.blob_id for found, _ in renditions])
        return sum(
            [
                await self._judge_unnamed(found, name, apply=apply)
                for found, name in renditions
                if name not in named.get(found.blob_id, {})
            ]
        )

    async def _judge_unnamed(self, found: StoredObject, name: str, *, apply: bool) -> bool:
        """Look again at a rendition that seems to be unwanted, and remove it.

        The row stays locked until the object is removed, and whoever puts renditions owes their
        clearing first, under the same lock: so nobody is at this one.
        """
        async with self._transactions.begin() as transaction:
            if not await _is_unwanted(transaction, found):
                return False
            if apply:
                await self._blobs.delete_rendition(found.blob_id, name, found.shard)
        return True

    async def lacking(self, blobs: Sequence[Blob], *, apply: bool) -> list[UUID]:
        """Those of `blobs` whose rows name renditions that are not there, to be made again."""
        known = await self._catalogue.renditions([blob.id for blob in blobs])
        return [
            blob.id
            for blob in blobs
            if blob.id in known
            and await self._missing(blob, known[blob.id])
            and await self._judge_lacking(blob.id, apply=apply)
        ]

    async def _missing(self, blob: Blob, known: Mapping[str, int]) -> set[str]:
        """Names of renditions whose object is gone or has another size."""
        stored = await self._blobs.renditions(blob.id, blob.shard)
        return {name for name, size in known.items() if stored.get(name) != size}

    async def _judge_lacking(self, blob_id: UUID, *, apply: bool) -> bool:
        """Look again at renditions that seem to be gone: they may just have been made or moved."""
        async with self._transactions.begin() as transaction:
            blob = await transaction.blobs.lock(blob_id)
            if blob is None or blob.state is not BlobState.LIVE:
                return False
            rows = {
                rendition_name(row.kind, row.recipe): row for row in await transaction.renditions.of(blob_id)
            }
            missing = await self._missing(blob, {name: row.byte_size for name, row in rows.items()})
            if missing and apply:
                for sort in RenditionSort:
                    if any(rows[name].kind in sort.kinds for name in missing):
                        await lack_renditions(transaction, blob_id, sort)
                await transaction.commit()
        return bool(missing)


async def _is_unwanted(transaction: ImagesUnitOfWork, found: StoredObject) -> bool:
    locked = await transaction.blobs.lock(found.blob_id)
    if locked is None or locked.state is not BlobState.LIVE or locked.shard != found.shard:
        return False
    rows = await transaction.renditions.of(found.blob_id)
    if found.rendition in {rendition_name(row.kind, row.recipe) for row in rows}:
        return False
    copy = copy_of(found.blob_id, found.shard)
    return not await transaction.outbox.owes(copy, CLEAR_RENDITIONS, DROP_RENDITIONS)

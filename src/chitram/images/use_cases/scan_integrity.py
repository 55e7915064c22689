"""Read a part of the store each night and compare it with what was stored."""

from __future__ import annotations

import msgspec

from chitram.images.ports import BlobCatalogue, BlobStore, DamageReports, Transactions
from chitram.images.use_cases.verify_blob import VerifyBlob
from chitram.kernel.errors import StorageUnavailable

_BATCH = 100


class ScanRules(msgspec.Struct, frozen=True):
    """In how many nights everything is to be read once."""

    nights: int


class ScanIntegrity:
    """Run by the worker, one blob after another, those never or longest not verified first.

    A store that is away keeps the others from nothing. Damage is told to the operator; the blob
    stays as it is, for the same bytes may be uploaded again or come from a backup.
    """

    def __init__(
        self,
        transactions: Transactions,
        catalogue: BlobCatalogue,
        blobs: BlobStore,
        verify: VerifyBlob,
        damage: DamageReports,
        rules: ScanRules,
    ) -> None:
        self._transactions = transactions
        self._catalogue = catalogue
        self._blobs = blobs
        self._verify = verify
        self._damage = damage
        self._rules = rules

    async def __call__(self) -> int:
        """Read a night's share; return how many blobs were found damaged or missing."""
        shards = {*self._blobs.shards}
        total = sum([await self._catalogue.count_held_by(shard) for shard in shards])
        left, damaged = -(-total // self._rules.nights), 0
        while left > 0:
            async with self._transactions.begin() as transaction:
                batch = await transaction.blobs.least_verified(shards, min(left, _BATCH))
            if not batch:
                break
            for blob in batch:
                if blob.shard not in shards:
                    continue
                try:
                    verification = await self._verify(blob)
                except StorageUnavailable:
                    shards.discard(blob.shard)
                    continue
                left -= 1
                if verification is not None and not verification.is_intact:
                    self._damage.damaged(blob, verification.found)
                    damaged += 1
        return damaged

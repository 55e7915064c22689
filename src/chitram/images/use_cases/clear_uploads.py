"""Remove direct uploads whose time is over, and whatever lies in quarantine without a reason."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from chitram.images.domain.upload import Upload
from chitram.images.ports import Quarantine, QuarantinedObject, Transactions
from chitram.images.use_cases.begin_upload import DirectUploadRules
from chitram.kernel.clock import Clock
from chitram.kernel.errors import StorageUnavailable

_BATCH = 500
# For clocks that differ, and for bytes that were on their way when the address ran out.
MARGIN = timedelta(minutes=5)


class ClearUploads:
    """Run by the worker, any number of times, also twice at once.

    An address may be used as long as it lives, also after completion, so a row stays until then
    and its object is removed with it. What arrives even later has no row any more, and what has
    none is found by listing the quarantine. A file that is too large is removed when it is seen.
    A store that is away or no longer configured never keeps the others from being cleared.
    """

    def __init__(
        self, transactions: Transactions, quarantine: Quarantine, clock: Clock, rules: DirectUploadRules
    ) -> None:
        self._transactions = transactions
        self._quarantine = quarantine
        self._clock = clock
        self._rules = rules

    async def __call__(self) -> int:
        """Clear up once; return how many rows and objects without one were removed."""
        away = set[str]()
        removed = await self._remove_ended(away)
        for shard in set(self._quarantine.shards) - away:
            with contextlib.suppress(StorageUnavailable):
                removed += await self._remove_unwanted(shard)
        return removed

    async def _remove_ended(self, away: set[str]) -> int:
        """Remove what is over, object first; stores found not to answer are added to `away`."""
        removed, after, before = 0, UUID(int=0), self._clock.now() - MARGIN
        while True:
            async with self._transactions.begin() as transaction:
                batch = await transaction.uploads.ended(before, after, _BATCH)
            for upload in batch:
                removed += await self._end(upload, away)
            if len(batch) < _BATCH:
                return removed
            after = batch[-1].id

    async def _end(self, upload: Upload, away: set[str]) -> bool:
        if upload.shard in away:
            return False
        if upload.shard in self._quarantine.shards:
            try:
                await self._quarantine.delete(upload.id, upload.shard)
            except StorageUnavailable:
                away.add(upload.shard)
                return False
        async with self._transactions.begin() as transaction:
            await transaction.uploads.remove(upload.id)
            await transaction.commit()
        return True

    async def _remove_unwanted(self, shard: str) -> int:
        removed = 0
        batch: list[QuarantinedObject] = []
        async for found in self._quarantine.list(shard):
            batch.append(found)
            if len(batch) >= _BATCH:
                removed += await self._judge(shard, batch)
                batch = []
        return removed + await self._judge(shard, batch)

    async def _judge(self, shard: str, batch: Sequence[QuarantinedObject]) -> int:
        # Longer than any address lives: whoever began this upload cannot be waiting for it.
        oldest = self._clock.now() - self._rules.life - MARGIN
        old = [found.upload_id for found in batch if found.modified <= oldest]
        unwanted = {found.upload_id for found in batch if found.size > self._rules.max_bytes}
        if old:
            async with self._transactions.begin() as transaction:
                unwanted |= set(old) - await transaction.uploads.known(old)
        for upload_id in unwanted:
            await self._quarantine.delete(upload_id, shard)
        return len(unwanted)

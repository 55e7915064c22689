"""Remove images whose time is up."""

from __future__ import annotations

from uuid import UUID

from chitram.accounts.public import Quotas
from chitram.images.domain.policies import has_expired
from chitram.images.ports import ImageCaches, Transactions
from chitram.images.use_cases.removal import out_of_sight, remove_image
from chitram.kernel.clock import Clock

_BATCH = 100


class ExpireImages:
    """Run by the worker. Reads refuse an expired image at once; this gives its space back."""

    def __init__(self, transactions: Transactions, caches: ImageCaches, quotas: Quotas, clock: Clock) -> None:
        self._transactions = transactions
        self._caches = caches
        self._quotas = quotas
        self._clock = clock

    async def __call__(self) -> int:
        """Remove every image that has expired by now; return how many."""
        removed = 0
        while True:
            async with self._transactions.begin() as transaction:
                batch = await transaction.images.expired(self._clock.now(), _BATCH)
            for image_id in batch:
                expired = await out_of_sight(self._expire(image_id), self._caches, image_id)
                removed += expired is not None
            if len(batch) < _BATCH:
                return removed

    async def _expire(self, image_id: UUID) -> int | None:
        async with self._transactions.begin() as transaction:
            image = await transaction.images.get(image_id)
            if image is None or not has_expired(image.expires_at, self._clock.now()):
                return None
            removed = await remove_image(transaction, image, self._quotas)
            await transaction.commit()
            return removed

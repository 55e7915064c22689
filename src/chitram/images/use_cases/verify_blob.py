"""Read a blob's stored bytes again and compare them with what was stored."""

from __future__ import annotations

from datetime import datetime

import msgspec

from chitram.images.domain.image import Blob, BlobState
from chitram.images.ports import BlobStore, Transactions
from chitram.kernel.clock import Clock
from chitram.kernel.errors import StorageUnavailable

# Each round is lost to a move, of which there are not many in the time of one reading.
_ROUNDS = 3


class Verification(msgspec.Struct, frozen=True):
    """What was found: SHA-256 of the object, None when it is missing, and what it should be."""

    found: bytes | None
    expected: bytes
    verified_at: datetime

    @property
    def is_intact(self) -> bool:
        """Whether the stored bytes are those that were stored."""
        return self.found == self.expected


class VerifyBlob:
    """Reads the whole object, so that the caller has to bound how many of these run at once.

    What is found is kept with the blob: when it was verified, and since when it is known to be
    damaged or missing. Raises `StorageUnavailable`, which says nothing of the blob.
    """

    def __init__(self, transactions: Transactions, blobs: BlobStore, clock: Clock) -> None:
        self._transactions = transactions
        self._blobs = blobs
        self._clock = clock

    async def __call__(self, blob: Blob) -> Verification | None:
        """Verify a blob as it was read from its row a moment ago; None when it is gone meanwhile."""
        for _ in range(_ROUNDS):
            found = await self._blobs.sha256(blob.id, blob.shard)
            verification = Verification(found, blob.sha256, self._clock.now())
            async with self._transactions.begin() as transaction:
                locked = await transaction.blobs.lock(blob.id)
                if locked is None or locked.state is not BlobState.LIVE:
                    return None
                if verification.is_intact or locked.shard == blob.shard:
                    await transaction.blobs.set_verified(
                        blob.id, verification.verified_at, is_intact=verification.is_intact
                    )
                    await transaction.commit()
                    return verification
            # It was moved while it was read; what counts is the object that the row names now.
            blob = locked
        raise StorageUnavailable("The image is being moved. Try again shortly.")

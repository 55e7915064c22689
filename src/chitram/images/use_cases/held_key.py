"""An idempotency key that a request works under."""

from __future__ import annotations

from uuid import UUID

import msgspec

from chitram.images.domain.errors import IdempotencyInProgress
from chitram.images.domain.idempotency import KEY_LIFE, IdempotencyKey
from chitram.images.ports import AnswerSealer, ImagesUnitOfWork


class HeldKey:
    """A key and its lease, to be settled in the transaction of what is made under it."""

    def __init__(self, key: IdempotencyKey, lease: UUID, sealer: AnswerSealer) -> None:
        self.key = key
        self.lease = lease
        self._sealer = sealer

    async def settle(self, transaction: ImagesUnitOfWork, image_id: UUID, answer: msgspec.Struct) -> None:
        """Keep the answer for repeats.

        Raises `IdempotencyInProgress` when another request has the key by now.
        """
        sealed = self._sealer.seal(msgspec.json.encode(answer), self.key)
        if not await transaction.keys.settle(self.key.hash, self.lease, image_id, sealed, life=KEY_LIFE):
            raise IdempotencyInProgress

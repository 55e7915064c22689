"""Receive the bytes of a direct upload whose store has no addresses of its own."""

from __future__ import annotations

from uuid import UUID

import msgspec

from chitram.images.domain.content import Received
from chitram.images.domain.errors import UploadAlreadyCompleted, UploadNotFound
from chitram.images.domain.policies import has_expired
from chitram.images.ports import Quarantine, Transactions
from chitram.kernel.clock import Clock


class ReceiveUploadCommand(msgspec.Struct, frozen=True):
    """Which upload, and its bytes, wholly received and not looked at."""

    upload_id: UUID
    received: Received


class ReceiveUpload:
    """Whoever has the address may put bytes there, again and again until they are completed.

    Raises `UploadNotFound`, also when its time is over, and `UploadAlreadyCompleted`.
    """

    def __init__(self, transactions: Transactions, quarantine: Quarantine, clock: Clock) -> None:
        self._transactions = transactions
        self._quarantine = quarantine
        self._clock = clock

    async def __call__(self, command: ReceiveUploadCommand) -> None:
        async with self._transactions.begin() as transaction:
            upload = await transaction.uploads.get(command.upload_id)
        if upload is None or has_expired(upload.expires_at, self._clock.now()):
            raise UploadNotFound
        if upload.image_id is not None:
            raise UploadAlreadyCompleted
        await self._quarantine.put(upload.id, upload.shard, command.received)

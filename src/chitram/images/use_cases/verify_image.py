"""Read the stored bytes of an image again and compare them with what was stored."""

from __future__ import annotations

from uuid import UUID

import msgspec

from chitram.accounts.public import AuditLog, Principal, Scope
from chitram.images.domain.errors import ImageNotFound
from chitram.images.ports import Transactions
from chitram.images.use_cases.ownership import record_oversight, require_owner, visible
from chitram.images.use_cases.verify_blob import Verification, VerifyBlob
from chitram.kernel.clock import Clock


class VerifyCommand(msgspec.Struct, frozen=True):
    """Which image, and who asks."""

    image_id: UUID
    principal: Principal


class VerifyImage:
    """The owner or an administrator may have an image verified.

    Raises `ImageNotFound`, `NotAuthenticated`, `Forbidden` and `StorageUnavailable`.
    """

    def __init__(
        self, transactions: Transactions, verify_blob: VerifyBlob, audit: AuditLog, clock: Clock
    ) -> None:
        self._transactions = transactions
        self._verify_blob = verify_blob
        self._audit = audit
        self._clock = clock

    async def __call__(self, command: VerifyCommand) -> Verification:
        async with self._transactions.begin() as transaction:
            found = await transaction.images.get(command.image_id)
            image = visible(found, command.principal, self._clock.now())
            require_owner(image.owner_id, command.principal, Scope.READ)
            blob = await transaction.blobs.get(image.blob_id)
            await record_oversight(
                self._audit,
                transaction,
                command.principal,
                "image.verify",
                image_id=image.id,
                owner_id=image.owner_id,
            )
            await transaction.commit()
        verification = await self._verify_blob(blob) if blob else None
        if verification is None:
            raise ImageNotFound
        return verification

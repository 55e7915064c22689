"""Delete an image."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec

from chitram.accounts.public import AuditLog, Principal, Quotas, Scope
from chitram.images.domain.errors import ImageNotFound
from chitram.images.domain.image import Image
from chitram.images.domain.policies import check_may_delete
from chitram.images.ports import ImageCaches, Transactions
from chitram.images.use_cases.ownership import record_oversight, visible
from chitram.images.use_cases.removal import out_of_sight, remove_image
from chitram.kernel.clock import Clock


class DeleteCommand(msgspec.Struct, frozen=True):
    """Which image, who asks, and the delete token if one was given."""

    image_id: UUID
    principal: Principal
    token: str | None = None


class DeleteImage:
    """The owner, an admin or whoever has the delete token may delete.

    Raises `ImageNotFound`, `DeleteTokenRequired`, `InvalidDeleteToken`, and `Forbidden` for
    credentials that may not be used so. Once it returns, no request is answered with the image; the
    object follows from the outbox.
    """

    def __init__(
        self,
        transactions: Transactions,
        caches: ImageCaches,
        quotas: Quotas,
        audit: AuditLog,
        clock: Clock,
    ) -> None:
        self._transactions = transactions
        self._caches = caches
        self._quotas = quotas
        self._audit = audit
        self._clock = clock

    async def __call__(self, command: DeleteCommand) -> None:
        if await out_of_sight(self._remove(command), self._caches, command.image_id) is None:
            raise ImageNotFound

    async def _remove(self, command: DeleteCommand) -> int | None:
        now = self._clock.now()
        async with self._transactions.begin() as transaction:
            image = visible(await transaction.images.get(command.image_id), command.principal, now)
            _check(image, command, now)
            removed = await remove_image(transaction, image, self._quotas)
            if removed is not None:
                await record_oversight(
                    self._audit,
                    transaction,
                    command.principal,
                    "image.delete",
                    image_id=image.id,
                    owner_id=image.owner_id,
                )
            await transaction.commit()
            return removed


def _check(image: Image, command: DeleteCommand, now: datetime) -> None:
    """Let pass whom the policy lets; credentials count for as much as they may be used for."""
    viewer = command.principal
    is_owner = image.owner_id is not None and image.owner_id == viewer.user_id
    if not command.token and (is_owner or viewer.is_admin):
        viewer.require(Scope.WRITE)
    may_write = Scope.WRITE in viewer.scopes
    check_may_delete(
        image,
        viewer_id=viewer.user_id if may_write else None,
        viewer_is_admin=viewer.is_admin and may_write,
        token=command.token,
        now=now,
    )

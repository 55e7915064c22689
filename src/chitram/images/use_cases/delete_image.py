"""Delete an image."""

from __future__ import annotations

from uuid import UUID

import msgspec

from chitram.accounts.public import Principal
from chitram.images.domain.errors import ImageNotFound
from chitram.images.domain.policies import check_may_delete, has_expired, may_see
from chitram.images.ports import ImageCaches, Transactions
from chitram.images.use_cases.removal import out_of_sight, remove_image
from chitram.kernel.clock import Clock


class DeleteCommand(msgspec.Struct, frozen=True):
    """Which image, who asks, and the delete token if one was given."""

    image_id: UUID
    principal: Principal
    token: str | None = None


class DeleteImage:
    """The owner, an admin or whoever has the delete token may delete.

    Raises `ImageNotFound`, `DeleteTokenRequired` or `InvalidDeleteToken`. Once it returns, no
    request is answered with the image; the object follows from the outbox.
    """

    def __init__(self, transactions: Transactions, caches: ImageCaches, clock: Clock) -> None:
        self._transactions = transactions
        self._caches = caches
        self._clock = clock

    async def __call__(self, command: DeleteCommand) -> None:
        if not await out_of_sight(self._remove(command), self._caches, command.image_id):
            raise ImageNotFound

    async def _remove(self, command: DeleteCommand) -> bool:
        viewer, now = command.principal, self._clock.now()
        async with self._transactions.begin() as transaction:
            image = await transaction.images.get(command.image_id)
            if (
                image is None
                or has_expired(image.expires_at, now)
                or not may_see(
                    image.visibility,
                    image.owner_id,
                    viewer_id=viewer.user_id,
                    viewer_is_admin=viewer.is_admin,
                )
            ):
                raise ImageNotFound
            check_may_delete(
                image,
                viewer_id=viewer.user_id,
                viewer_is_admin=viewer.is_admin,
                token=command.token,
                now=now,
            )
            removed = await remove_image(transaction, image)
            await transaction.commit()
            return removed

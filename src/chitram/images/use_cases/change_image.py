"""Change the name of an image, or who may see it."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import msgspec

from chitram.accounts.public import AuditLog, Principal, Scope
from chitram.images.domain.errors import ImageNotFound
from chitram.images.domain.filename import sanitise_filename
from chitram.images.domain.image import Image, Visibility
from chitram.images.domain.policies import check_options
from chitram.images.domain.work import IMAGE_ID, PURGE_IMAGE, VERSION
from chitram.images.ports import ImageCaches, ImagesUnitOfWork, Transactions
from chitram.images.use_cases.ownership import record_oversight, require_owner, visible
from chitram.images.use_cases.removal import out_of_sight
from chitram.kernel.clock import Clock


class ChangeCommand(msgspec.Struct, frozen=True, kw_only=True):
    """Which image, who asks, and what is to be another; None stays as it is."""

    image_id: UUID
    principal: Principal
    filename: str | None = None
    visibility: Visibility | None = None


class ChangeImage:
    """The owner or an administrator may change an image; a delete token gives no right to.

    Raises `ImageNotFound`, `NotAuthenticated`, `Forbidden`, and `InvalidRequest` for what no image
    could be. Once it returns, no request is answered with what was before.
    """

    def __init__(
        self, transactions: Transactions, caches: ImageCaches, audit: AuditLog, clock: Clock
    ) -> None:
        self._transactions = transactions
        self._caches = caches
        self._audit = audit
        self._clock = clock

    async def __call__(self, command: ChangeCommand) -> None:
        await out_of_sight(self._change(command), self._caches, command.image_id)

    async def _change(self, command: ChangeCommand) -> int | None:
        """Change the row under its lock, so that of two changes at once neither is lost."""
        now = self._clock.now()
        async with self._transactions.begin() as transaction:
            image = visible(await transaction.images.lock(command.image_id), command.principal, now)
            require_owner(image.owner_id, command.principal, Scope.WRITE)
            changed = await _changed(transaction, command, image)
            is_other = changed != image
            if is_other:
                changed = replace(changed, version=image.version + 1, updated_at=now)
                await transaction.images.update(changed)
                payload = {IMAGE_ID: str(image.id), VERSION: str(changed.version)}
                await transaction.outbox.add(PURGE_IMAGE, payload)
            await record_oversight(
                self._audit,
                transaction,
                command.principal,
                "image.change",
                image_id=image.id,
                owner_id=image.owner_id,
                visibility=changed.visibility.value,
                filename=changed.filename,
            )
            await transaction.commit()
            return changed.version if is_other else None


async def _changed(transaction: ImagesUnitOfWork, command: ChangeCommand, image: Image) -> Image:
    """The image as it is to be, with the old version."""
    if command.visibility is not None:
        check_options(command.visibility, None, owner_id=image.owner_id)
        image = replace(image, visibility=command.visibility)
    if command.filename is not None:
        blob = await transaction.blobs.get(image.blob_id)
        if blob is None:
            raise ImageNotFound
        image = replace(image, filename=sanitise_filename(command.filename, blob.format.extension))
    return image

"""Whose image it is: what changing, deleting and verifying one ask first."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from chitram.accounts.public import AuditLog, Forbidden, Principal, Scope
from chitram.images.domain.errors import ImageNotFound
from chitram.images.domain.image import Image
from chitram.images.domain.policies import has_expired, may_see
from chitram.kernel.uow import UnitOfWork


def visible(image: Image | None, viewer: Principal, now: datetime) -> Image:
    """The image, as far as it exists for whoever asks. Raises `ImageNotFound`."""
    if (
        image is None
        or has_expired(image.expires_at, now)
        or not may_see(
            image.visibility,
            image.owner_id,
            viewer_id=viewer.viewer_id,
            viewer_is_admin=viewer.sees_all,
        )
    ):
        raise ImageNotFound
    return image


def require_owner(owner_id: UUID | None, principal: Principal, scope: Scope) -> None:
    """Let the owner and administrators pass, if their credentials may be used for `scope`.

    Raises `NotAuthenticated` for the anonymous, and `Forbidden`.
    """
    if principal.require(scope) != owner_id and not principal.is_admin:
        raise Forbidden


async def record_oversight(
    audit: AuditLog,
    transaction: UnitOfWork,
    principal: Principal,
    action: str,
    *,
    image_id: UUID,
    owner_id: UUID | None,
    **details: str | int | None,
) -> None:
    """Write down what an administrator does to an image that is not theirs; nothing of others."""
    if not principal.is_admin or principal.user_id == owner_id:
        return
    owner = None if owner_id is None else str(owner_id)
    await audit.record(
        transaction,
        actor=principal,
        action=action,
        subject=f"image:{image_id}",
        details={"owner_id": owner, **details},
    )

"""Who may do what with an image or an upload, and what an upload may claim."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Collection
from datetime import datetime
from uuid import UUID

from chitram.images.domain.content import Received
from chitram.images.domain.errors import (
    ContentTypeMismatch,
    DeleteTokenRequired,
    DigestMismatch,
    InvalidDeleteToken,
    InvalidFileFormat,
    InvalidUploadToken,
    UploadNotFound,
    UploadTokenRequired,
)
from chitram.images.domain.image import Image, ImageFormat, Visibility
from chitram.images.domain.upload import Upload
from chitram.kernel.errors import InvalidRequest

LONGEST_LIFE_SECONDS = 10 * 365 * 86_400
_TOKEN_BYTES = 32
# Names that clients use for the two formats beside the registered ones.
_ALIASES = {"image/jpg": "image/jpeg", "image/pjpeg": "image/jpeg", "image/x-png": "image/png"}
# The last is what curl declares of any bare body.
_UNDECLARED = {"", "application/octet-stream", "application/x-www-form-urlencoded"}


def may_see(visibility: str, owner_id: UUID | None, *, viewer_id: UUID | None, viewer_is_admin: bool) -> bool:
    """Say whether an image exists as far as this viewer may know."""
    if visibility != Visibility.PRIVATE or viewer_is_admin:
        return True
    return owner_id is not None and owner_id == viewer_id


def has_expired(expires_at: datetime | None, now: datetime) -> bool:
    """Say whether an image's time is up."""
    return expires_at is not None and expires_at <= now


def check_declared_type(declared: str | None, found: ImageFormat) -> None:
    """Compare the client's media type, if it declared one, with what the content is.

    Raises `ContentTypeMismatch`.
    """
    media_type = _declared(declared)
    if media_type in _UNDECLARED or _ALIASES.get(media_type, media_type) == found.media_type:
        return
    raise ContentTypeMismatch(
        details={
            "declared": media_type[:100],
            "detected": found.media_type,
            "accepted": [found.media_type],
        }
    )


def acceptable_type(declared: str | None, allowed: Collection[ImageFormat]) -> str | None:
    """The media type that a client declares ahead of the content, or None when it declares nothing.

    Raises `InvalidFileFormat` for one that no accepted content can have.
    """
    media_type = _declared(declared)
    if media_type in _UNDECLARED:
        return None
    accepted = [each.media_type for each in allowed]
    if (registered := _ALIASES.get(media_type, media_type)) not in accepted:
        raise InvalidFileFormat(details={"declared": media_type[:100], "accepted": accepted})
    return registered


def _declared(declared: str | None) -> str:
    return (declared or "").partition(";")[0].strip().lower()


def check_options(visibility: Visibility, expires_in: int | None, *, owner_id: UUID | None) -> None:
    """Refuse options that no image could have. Raises `InvalidRequest`."""
    if visibility is Visibility.PRIVATE and owner_id is None:
        raise InvalidRequest(
            "A private image needs an owner: sign in, or choose unlisted or public.",
            details={"field": "visibility"},
        )
    if expires_in is not None and not 1 <= expires_in <= LONGEST_LIFE_SECONDS:
        raise InvalidRequest(
            f"expires_in is a number of seconds from 1 to {LONGEST_LIFE_SECONDS}.",
            details={"field": "expires_in"},
        )


def check_digest(expected: bytes | None, received: Received) -> None:
    """Compare the digest that the client sent, if any. Raises `DigestMismatch`."""
    if expected is not None and not hmac.compare_digest(expected, received.sha256):
        raise DigestMismatch


def new_token() -> tuple[str, bytes]:
    """Make a token that proves who uploaded: the URL-safe text shown once, and the hash that is kept."""
    token = secrets.token_urlsafe(_TOKEN_BYTES)
    return token, hash_token(token)


def hash_token(token: str) -> bytes:
    """SHA-256 of a token. It has 256 random bits, so a slow password hash would add nothing."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def check_may_delete(
    image: Image,
    *,
    viewer_id: UUID | None,
    viewer_is_admin: bool,
    token: str | None,
    now: datetime,
) -> None:
    """Let the owner, an admin or the holder of the delete token pass.

    Raises `DeleteTokenRequired` without a token, `InvalidDeleteToken` with a wrong or stale one.
    """
    if viewer_is_admin or (image.owner_id is not None and image.owner_id == viewer_id):
        return
    if not token:
        raise DeleteTokenRequired
    matches = hmac.compare_digest(hash_token(token), image.delete_token_hash or bytes(32))
    if not matches or has_expired(image.delete_token_expires_at, now):
        raise InvalidDeleteToken


def check_may_complete(
    upload: Upload | None, *, caller_id: UUID | None, token: str | None, now: datetime
) -> Upload:
    """Let whoever began an upload pass: its owner, or the holder of its token.

    Raises `UploadNotFound` also when its time is over or it is another's, `UploadTokenRequired`
    without a token and `InvalidUploadToken` with a wrong one.
    """
    if upload is None or has_expired(upload.expires_at, now):
        raise UploadNotFound
    if upload.owner_id is not None:
        if upload.owner_id != caller_id:
            raise UploadNotFound
        return upload
    if not token:
        raise UploadTokenRequired
    if not hmac.compare_digest(hash_token(token), upload.token_hash or bytes(32)):
        raise InvalidUploadToken
    return upload

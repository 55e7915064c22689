"""Direct uploads: bytes that a client puts into quarantine and only then has checked."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from chitram.images.domain.image import Visibility


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A direct upload: begun, and completed once it has an `image_id`.

    Attributes:
        shard: name of the object store whose quarantine takes its bytes.
        owner_id: who began it; None for an anonymous upload, which has a token instead.
        token_hash: SHA-256 of that token.
        filename: what the client called the file, without anything harmful; None without a name.
        content_type: media type that the client declared, compared with the content at the end.
        expires_in: life of the image in seconds, counted from completion; None is for ever.
        expires_at: until when it can be completed.
    """

    id: UUID
    shard: str
    visibility: Visibility
    created_at: datetime
    expires_at: datetime
    owner_id: UUID | None = None
    token_hash: bytes | None = None
    filename: str | None = None
    content_type: str | None = None
    expires_in: int | None = None
    image_id: UUID | None = None

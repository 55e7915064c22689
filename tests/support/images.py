"""Images that no request can make yet: private ones, and those that somebody owns."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID, uuid4

import asyncpg


async def add_image(
    database_url: str,
    like: str,
    *,
    visibility: str = "private",
    owner: UUID | None = None,
    expires_at: datetime | None = None,
) -> str:
    """Add an image over the same bytes as the image `like`, and return its id."""
    image_id = uuid4()
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(
            """
            INSERT INTO images
                (id, blob_id, filename, created_at, updated_at, visibility, owner_id, expires_at)
            SELECT $1, blob_id, filename, created_at, updated_at, $3, $4, $5 FROM images WHERE id = $2
            """,
            image_id,
            UUID(like),
            visibility,
            owner,
            expires_at,
        )
    finally:
        await connection.close()
    return str(image_id)

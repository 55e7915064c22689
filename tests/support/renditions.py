"""Renditions put where a worker would put them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from uuid import UUID

import asyncpg

from chitram.images.public import RenditionKind, rendition_key
from chitram.platform.objects.base import ObjectStore


@dataclass(frozen=True, slots=True)
class Put:
    """A rendition that is there."""

    content: bytes
    media_type: str
    key: str

    @property
    def etag(self) -> str:
        return f'"{hashlib.sha256(self.content).hexdigest()}"'


async def put_rendition(
    database_url: str,
    store: ObjectStore,
    image_id: str,
    kind: RenditionKind,
    encoding: str = "webp",
    *,
    recipe: int = 1,
    repeat: int = 50,
) -> Put:
    """Add a rendition of an image's blob, or put it in the place of that of another recipe.

    Its bytes are no picture, but no other rendition has the same.
    """
    content = f"{image_id} {kind} by recipe {recipe}. ".encode() * repeat
    connection = await asyncpg.connect(database_url)
    try:
        blob_id: UUID = await connection.fetchval(
            """
            INSERT INTO renditions (blob_id, kind, recipe, format, width, height, byte_size, sha256)
            SELECT blob_id, $2, $3, $4, 150, 110, $5, $6 FROM images WHERE id = $1
            ON CONFLICT (blob_id, kind) DO UPDATE
            SET recipe = $3, format = $4, byte_size = $5, sha256 = $6, created_at = now()
            RETURNING blob_id
            """,
            UUID(image_id),
            kind.value,
            recipe,
            encoding,
            len(content),
            hashlib.sha256(content).digest(),
        )
    finally:
        await connection.close()
    put = Put(content, f"image/{encoding}", rendition_key(blob_id, kind, recipe))
    await store.put(put.key, [content], len(content), put.media_type)
    return put


async def mark_processed(
    database_url: str, image_id: str, processing: str = "ready", *, optimised: bool = True
) -> None:
    """Let an image's blob be processed as far as this."""
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(
            "UPDATE blobs SET processing = $2, optimised_recipe = $3"
            " WHERE id = (SELECT blob_id FROM images WHERE id = $1)",
            UUID(image_id),
            processing,
            1 if optimised else None,
        )
    finally:
        await connection.close()

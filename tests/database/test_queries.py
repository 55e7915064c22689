"""Reads of images, on real PostgreSQL."""

from __future__ import annotations

import asyncpg

from chitram.images.queries import RenditionView
from tests.support.database import Database
from tests.support.rows import make_images


async def test_an_image_is_read_with_the_renditions_of_its_blob(database: Database) -> None:
    (made,) = await make_images(database.url, 1, blobs=1)
    connection = await asyncpg.connect(database.url)
    await connection.execute("UPDATE blobs SET processing = 'ready', optimised_recipe = 1")
    made_at = await connection.fetchval(
        "INSERT INTO renditions (blob_id, kind, recipe, format, width, height, byte_size, sha256)"
        " SELECT id, 'small', 1, 'webp', 150, 84, 4210, $1 FROM blobs RETURNING created_at",
        bytes(32),
    )
    await connection.close()
    view = await database.queries.find(made.id)
    assert view is not None
    assert (view.processing, view.optimised) == ("ready", True)
    assert view.renditions == (RenditionView("small", 1, "image/webp", 150, 84, 4210, "00" * 32, made_at),)

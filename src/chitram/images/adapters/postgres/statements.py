"""All statements of images that are transactions of their own."""

from __future__ import annotations

from chitram.images.adapters.postgres import first_images, renditions

STATEMENTS = (*first_images.STATEMENTS, *renditions.STATEMENTS)

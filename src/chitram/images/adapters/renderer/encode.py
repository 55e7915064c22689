"""Save pictures without anything beside their pixels."""

from __future__ import annotations

import io

from PIL import Image

from chitram.images.adapters.renderer.protocol import Encoded
from chitram.images.domain.rendition import RenditionFormat, RenditionKind


def encoded(kind: RenditionKind, image: Image.Image, form: RenditionFormat, **options: object) -> Encoded:
    """Encode a picture as `form` with Pillow's options for it."""
    buffer = io.BytesIO()
    # Whatever came with the original is not for the rendition.
    image.info.clear()
    image.save(buffer, form.value, **options)
    return Encoded(kind, form, image.width, image.height, buffer.getvalue())

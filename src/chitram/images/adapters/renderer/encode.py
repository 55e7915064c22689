"""Save pictures without anything beside their pixels."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator

from PIL import Image, ImageFile

from chitram.images.adapters.renderer.protocol import Encoded
from chitram.images.domain.rendition import RenditionFormat, RenditionKind

# libjpeg writes what it optimises in one piece, for which Pillow allows a byte for each pixel, two
# at high qualities. Coloured noise of black and white takes 2.3 at the highest in use here.
_JPEG_BYTES_PER_PIXEL = 6


def encoded(kind: RenditionKind, image: Image.Image, form: RenditionFormat, **options: object) -> Encoded:
    """Encode a picture as `form` with Pillow's options for it."""
    buffer = io.BytesIO()
    # Whatever came with the original is not for the rendition.
    image.info.clear()
    with _room_for(image) if form is RenditionFormat.JPEG else contextlib.nullcontext():
        image.save(buffer, form.value, **options)
    return Encoded(kind, form, image.width, image.height, buffer.getvalue())


@contextlib.contextmanager
def _room_for(image: Image.Image) -> Iterator[None]:
    """Have Pillow's buffer hold the worst JPEG there can be of a picture; unused, it takes no memory."""
    before = ImageFile.MAXBLOCK
    ImageFile.MAXBLOCK = max(before, _JPEG_BYTES_PER_PIXEL * image.width * image.height)
    try:
        yield
    finally:
        # How PNG divides its data depends on it.
        ImageFile.MAXBLOCK = before

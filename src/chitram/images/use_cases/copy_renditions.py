"""Copy the renditions of a blob to another store, for a move."""

from __future__ import annotations

import hashlib
from collections.abc import Collection

from chitram.images.domain.rendition import Rendition, RenditionSort
from chitram.images.ports import BlobStore
from chitram.kernel.errors import StorageUnavailable


async def copy_renditions(
    blobs: BlobStore, renditions: Collection[Rendition], source: str, target: str
) -> set[RenditionSort]:
    """Copy renditions and prove each copy by reading it; say of which sorts some are lost.

    Raises `StorageUnavailable`. One is lost when its object is missing or not what its row says.
    """
    lost = set[RenditionSort]()
    for rendition in renditions:
        content = await blobs.read_rendition(rendition, source)
        if content is None or hashlib.sha256(content).digest() != rendition.sha256:
            lost |= {sort for sort in RenditionSort if rendition.kind in sort.kinds}
            continue
        await blobs.put_rendition(rendition, target, content)
        if await blobs.read_rendition(rendition, target) != content:
            raise StorageUnavailable("A store does not give back what was put.")
    return lost

"""Make the thumbnails of a blob."""

from __future__ import annotations

from chitram.images.domain.image import Blob
from chitram.images.domain.rendition import Processing, RenditionSort
from chitram.images.ports import Renderer, RenderingFailed
from chitram.images.use_cases.renditions import RenditionCommand, RenditionKeeper

_SORT = RenditionSort.THUMBNAILS


class MakeRenditions:
    """Run by the worker, any number of times, also twice at once.

    Raises `RenderingFailed`, `DamagedBlob`, `StorageUnavailable` and `DatabaseUnavailable`; the
    outbox entry is still there then.
    """

    def __init__(self, keeper: RenditionKeeper, renderer: Renderer) -> None:
        self._keeper = keeper
        self._renderer = renderer

    async def __call__(self, command: RenditionCommand) -> None:
        blob = await self._keeper.live_blob(command)
        if blob is None:
            return
        if _is_made(blob):
            await self._keeper.strike_off(command)
            return
        rendered = await self._keeper.render(blob, self._renderer.thumbnails)
        if {each.kind for each in rendered} != set(_SORT.kinds):
            raise RenderingFailed("there are not all thumbnails")
        await self._keeper.keep(command, _SORT, rendered)


def _is_made(blob: Blob) -> bool:
    """Whether another run of this was first; a later release may even have made better ones."""
    return blob.processing is Processing.READY and (blob.thumbnails_recipe or 0) >= _SORT.recipe

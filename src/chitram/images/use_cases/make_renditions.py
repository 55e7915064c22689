"""Make the thumbnails of a blob."""

from __future__ import annotations

from collections.abc import Sequence

from chitram.images.domain.content import Received
from chitram.images.domain.rendition import RenditionSort
from chitram.images.ports import Rendered, Renderer, RenderingFailed
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
        making = await self._keeper.begin(command, _SORT)
        if making is None:
            return
        rendered = await self._keeper.render(making, self._thumbnails)
        await self._keeper.keep(command, _SORT, making, rendered)

    async def _thumbnails(self, original: Received) -> Sequence[Rendered]:
        rendered = await self._renderer.thumbnails(original)
        if {each.kind for each in rendered} != set(_SORT.kinds):
            raise RenderingFailed("there are not all thumbnails")
        return rendered

"""Make of a blob what is smaller than itself and looks the same."""

from __future__ import annotations

from collections.abc import Sequence

from chitram.images.domain.image import Blob
from chitram.images.domain.rendition import OPTIMISED_MAX_PIXELS, RenditionSort
from chitram.images.ports import Rendered, Renderer
from chitram.images.use_cases.renditions import RenditionCommand, RenditionKeeper

_SORT = RenditionSort.OPTIMISED


class Optimise:
    """Run by the worker, any number of times, also twice at once; raises what `MakeRenditions` does.

    Whatever comes of it, the recipe is recorded: then there will be no more than there is.
    """

    def __init__(self, keeper: RenditionKeeper, renderer: Renderer) -> None:
        self._keeper = keeper
        self._renderer = renderer

    async def __call__(self, command: RenditionCommand) -> None:
        blob = await self._keeper.live_blob(command)
        if blob is None:
            return
        if (blob.optimised_recipe or 0) >= _SORT.recipe:
            await self._keeper.strike_off(command)
            return
        await self._keeper.keep(command, _SORT, await self._render(blob))

    async def _render(self, blob: Blob) -> Sequence[Rendered]:
        if (blob.width or 0) * (blob.height or 0) > OPTIMISED_MAX_PIXELS:
            return []
        return await self._keeper.render(blob, self._renderer.optimised)

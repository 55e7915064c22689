"""Make of a blob what is smaller than itself and looks the same."""

from __future__ import annotations

from collections.abc import Sequence

from chitram.images.domain.rendition import OPTIMISED_MAX_PIXELS, RenditionSort
from chitram.images.ports import Rendered, Renderer
from chitram.images.use_cases.renditions import Making, RenditionCommand, RenditionKeeper

_SORT = RenditionSort.OPTIMISED


class Optimise:
    """Run by the worker, any number of times, also twice at once; raises what `MakeRenditions` does.

    Whatever comes of it, the recipe is recorded: then there will be no more than there is.
    """

    def __init__(self, keeper: RenditionKeeper, renderer: Renderer) -> None:
        self._keeper = keeper
        self._renderer = renderer

    async def __call__(self, command: RenditionCommand) -> None:
        # It takes long, and perhaps nothing comes of it: what is put is owed only then.
        making = await self._keeper.begin(command, _SORT, puts_within=None)
        if making is not None:
            await self._keeper.keep(command, _SORT, making, await self._render(making))

    async def _render(self, making: Making) -> Sequence[Rendered]:
        blob = making.blob
        if (blob.width or 0) * (blob.height or 0) > OPTIMISED_MAX_PIXELS:
            return []
        return await self._keeper.render(making, self._renderer.optimised)

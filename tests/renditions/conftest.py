"""Renderers and originals for the tests of renditions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from typing import Any

import pytest

from chitram.images.adapters.renderer.renderer import ChildRenderer
from chitram.images.domain.content import Received
from tests.support.received import Stored

NewRenderer = Callable[..., ChildRenderer]
New = Callable[[bytes], Received]


@pytest.fixture
def stored() -> Iterator[New]:
    """Make originals that are closed after the test."""
    with ExitStack() as stack:

        def make(data: bytes) -> Received:
            made = Stored(data)
            stack.enter_context(made.file)
            return made

        yield make


@pytest.fixture
async def new_renderer() -> AsyncIterator[NewRenderer]:
    """Make renderers, of one child unless told otherwise, that are closed after the test."""
    async with AsyncExitStack() as stack:

        def make(**options: Any) -> ChildRenderer:
            made = renderer_of(**options)
            stack.push_async_callback(made.aclose)
            return made

        yield make


@pytest.fixture(scope="session")
async def renderer() -> AsyncIterator[ChildRenderer]:
    """A renderer with the default settings, for tests that leave its children whole."""
    shared = renderer_of(size=2)
    yield shared
    await shared.aclose()


def renderer_of(**options: Any) -> ChildRenderer:
    return ChildRenderer(**{"size": 1, "seconds": 60.0, "memory_bytes": 1 << 30, **options})

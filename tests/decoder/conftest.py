"""Pools and uploads for the tests of the decoder."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from typing import Any

import pytest

from chitram.images.adapters.decoder.pool import DecoderPool
from chitram.images.adapters.decoder.protocol import Terms
from chitram.images.domain.content import Inspection, Received, stored_chunks
from chitram.images.domain.image import ImageFormat
from tests.support.received import Stored

Upload = Callable[[bytes], Received]
NewPool = Callable[..., Awaitable[DecoderPool]]
Put = Callable[[bytes, Inspection], bytes]


@pytest.fixture
def upload() -> Iterator[Upload]:
    """Make uploads that are closed after the test."""
    with ExitStack() as stack:

        def make(data: bytes) -> Received:
            made = Stored(data)
            stack.enter_context(made.file)
            return made

        yield make


@pytest.fixture
def stored(upload: Upload) -> Put:
    """Put together what an inspection would store."""
    return lambda data, inspection: b"".join(stored_chunks(upload(data), inspection.pieces))


@pytest.fixture
async def new_pool() -> AsyncIterator[NewPool]:
    """Make pools, of one decoder unless told otherwise, that are closed after the test."""
    async with AsyncExitStack() as stack:

        async def make(*, started: bool = True, **options: Any) -> DecoderPool:
            pool = pool_of(**options)
            stack.push_async_callback(pool.aclose)
            if started:
                await pool.start()
            return pool

        yield make


@pytest.fixture(scope="session")
async def pool() -> AsyncIterator[DecoderPool]:
    """A pool with the default settings, for tests that leave its decoders whole."""
    shared = pool_of(size=2)
    await shared.start()
    yield shared
    await shared.aclose()


@pytest.fixture(scope="session")
async def keeping_pool() -> AsyncIterator[DecoderPool]:
    """A pool that keeps metadata."""
    shared = pool_of(metadata_policy="keep")
    await shared.start()
    yield shared
    await shared.aclose()


def pool_of(**options: Any) -> DecoderPool:
    defaults = {
        "size": 1,
        "decode_seconds": 15.0,
        "memory_bytes": 1 << 30,
        "wait_seconds": 20.0,
        "max_pixels": 50_000_000,
        "allowed_formats": ("jpeg", "png"),
        "metadata_policy": "strip",
    }
    return DecoderPool(**{**defaults, **options})


@pytest.fixture
def terms() -> Terms:
    """What a decoder is told with the default settings."""
    return Terms(
        memory_bytes=1 << 30,
        cpu_seconds=15.0,
        niceness=5,
        max_pixels=50_000_000,
        allowed_formats=tuple(ImageFormat),
        keep_metadata=False,
    )

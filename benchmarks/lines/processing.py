"""Images fully processed per second: three thumbnails each, made, stored and recorded, out of a backlog."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from functools import partial
from pathlib import Path

import msgspec

from benchmarks.backlog import Backlog, backlog_of
from benchmarks.model import Line, Ratio, Run, Sample
from benchmarks.peers import thumbor
from benchmarks.peers.looping import loops
from benchmarks.photos import photo
from benchmarks.stack import running_stack
from chitram.images.domain.rendition import THUMBNAIL_SIDES

LOOPS = 2
# Different files, so that the loop's originals are no nearer to its processor than a worker's.
_ORIGINALS = 16
# Images a second, by megapixels, for which there is work enough.
_MOST = {2: 150, 12: 60}


@contextlib.asynccontextmanager
async def _beside_the_loop(megapixels: float, most: float) -> AsyncIterator[Mapping[str, Run]]:
    async with running_stack() as stack, backlog_of(stack, photo(megapixels)) as backlog:
        bare = stack.servers.data_dir / "bare"
        originals = _originals(bare, photo(megapixels))
        async with loops("benchmarks.peers.rendering", LOOPS, bare, *originals) as running:
            yield {"ours": partial(_processed, backlog, most), "peer": running.run}


@contextlib.asynccontextmanager
async def _beside_thumbor(megapixels: float, most: float) -> AsyncIterator[Mapping[str, Run]]:
    async with running_stack() as stack, backlog_of(stack, photo(megapixels)) as backlog:
        originals = _originals(stack.servers.data_dir / "originals", photo(megapixels))
        async with thumbor.running(originals) as run:
            yield {"ours": partial(_thumbnails, backlog, most), "peer": run}


async def _thumbnails(backlog: Backlog, most: float, seconds: float) -> Sample:
    images = await _processed(backlog, most, seconds)
    each = images.cpu_ms / len(THUMBNAIL_SIDES) if images.cpu_ms else None
    return msgspec.structs.replace(images, rate=images.rate * len(THUMBNAIL_SIDES), cpu_ms=each)


async def _processed(backlog: Backlog, most: float, seconds: float) -> Sample:
    return await backlog.processed(seconds, most=most)


def _originals(folder: Path, content: bytes) -> list[Path]:
    """Write several copies of a photograph into a new folder."""
    folder.mkdir()
    files = [folder / f"original-{number}.jpg" for number in range(_ORIGINALS)]
    for file in files:
        file.write_bytes(content)
    return files


LINES: list[Line] = [
    Ratio(
        key="processed-2m",
        title="Images of 2 MP, three thumbnails",
        against="the same library calls in bare loops",
        least=0.70,
        sides=partial(_beside_the_loop, 2, _MOST[2]),
        warm_up=0,
    ),
    Ratio(
        key="processed-12m",
        title="Images of 12 MP, three thumbnails",
        against="the same library calls in bare loops",
        least=0.70,
        sides=partial(_beside_the_loop, 12, _MOST[12]),
        warm_up=0,
        quick=False,
    ),
    *(
        Ratio(
            key=f"thumbor-{megapixels}m",
            title=f"Thumbnails of {megapixels} MP, beside thumbor",
            against="thumbor, 2 processes, 300 px from local files",
            least=1.5,
            sides=partial(_beside_thumbor, megapixels, most),
            warm_up=0,
            quick=False,
        )
        for megapixels, most in _MOST.items()
    ),
]

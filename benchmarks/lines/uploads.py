"""Uploads accepted per second: checked, stored, committed and answered, while no worker runs."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from functools import partial
from pathlib import Path

from benchmarks.load.uploads import upload
from benchmarks.model import Line, Ratio, Run, Sample
from benchmarks.peers.looping import loops as bare_loops
from benchmarks.peers.sink import running_sink
from benchmarks.photos import of_bytes
from benchmarks.processes import watching
from benchmarks.stack import Stack, running_stack

_SIZES = {"200k": 200_000, "3m": 3_000_000}
CLIENTS = 8
# On two processors it depends on the disk, for which a loop waits, how many loops are the fastest.
_LOOPS = (2, 3, 4)
_TRIED_SECONDS = 0.4
_WARM_UP = 16


@contextlib.asynccontextmanager
async def _sides() -> AsyncIterator[Mapping[str, Run]]:
    async with running_stack() as stack, running_sink() as sink, contextlib.AsyncExitStack() as loops:
        sides: dict[str, Run] = {}
        for name, size in _SIZES.items():
            file = await _warmed_up(stack, name, size)
            bare = stack.servers.data_dir / f"bare-{name}"
            bare.mkdir()
            running = await loops.enter_async_context(
                bare_loops("benchmarks.peers.check_and_store", max(_LOOPS), bare, file)
            )
            await running.keep_fastest(_LOOPS, _TRIED_SECONDS)
            sides |= {name: partial(accepted, stack, file), f"bare-{name}": running.run}
        sides["sink"] = partial(_thrown_away, sink, stack.servers.data_dir / "200k.jpg")
        yield sides


async def _warmed_up(stack: Stack, name: str, size: int) -> Path:
    """Have every process of the API take in a few, and return the file that was sent."""
    file = stack.servers.data_dir / f"{name}.jpg"
    file.write_bytes(of_bytes(size))
    await upload(stack.api.host, CLIENTS, file, count=_WARM_UP)
    return file


async def accepted(stack: Stack, file: Path, seconds: float) -> Sample:
    """Upload for so long, with as many clients as these lines are about."""
    async with watching(stack.roots()) as used:
        seen = await upload(stack.api.host, CLIENTS, file, seconds=seconds)
    return seen.sample(used)


async def _thrown_away(sink: tuple[str, int], file: Path, seconds: float) -> Sample:
    return (await upload(sink, CLIENTS, file, seconds=seconds)).sample()


LINES: list[Line] = [
    Ratio(
        key="upload-200k",
        title="Uploads of 200 KB, 8 clients",
        against="bare loops: hash, check, store",
        least=0.60,
        sides=_sides,
        ours="200k",
        peer="bare-200k",
    ),
    Ratio(
        key="upload-3m",
        title="Uploads of 3 MB, 8 clients",
        against="bare loops: hash, check, store",
        least=0.70,
        sides=_sides,
        ours="3m",
        peer="bare-3m",
    ),
    Ratio(
        key="upload-client",
        title="The upload client alone, 200 KB",
        against="uploads of 200 KB accepted",
        least=3.0,
        sides=_sides,
        ours="sink",
        peer="200k",
        seconds=2.0,
        quick=False,
    ),
]

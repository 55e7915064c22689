from __future__ import annotations

import asyncio
import os
import shutil
import sys

import psutil
import pytest

from benchmarks.processes import tree
from tests.support.api import make_data_dir

_MEASURING = """
import asyncio, os
from pathlib import Path
from benchmarks.load import uploads
from benchmarks.peers.sink import running_sink
from benchmarks.processes import command, tree
from benchmarks.stack import running_stack

async def measure():
    async with running_stack(workers=1), running_sink() as sink, asyncio.TaskGroup() as group:
        group.create_task(uploads.upload(sink, 1, Path(uploads.__file__)))
        while not any(uploads.__name__ in command(pid) for pid in tree([os.getpid()])):
            await asyncio.sleep(0.01)
        print("measuring", flush=True)

asyncio.run(measure())
"""
_END_SECONDS = 20


@pytest.mark.long
async def test_nothing_goes_on_when_a_benchmark_is_killed() -> None:
    place = make_data_dir()
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", _MEASURING),
            stdout=asyncio.subprocess.PIPE,
            env=os.environ | {"TMPDIR": str(place)},
        )
        assert process.stdout
        async with asyncio.timeout(60):
            assert await process.stdout.readline() == b"measuring\n"
        family = [psutil.Process(pid) for pid in tree([process.pid]) if pid != process.pid]
        process.kill()
        await process.wait()
        _, left = await asyncio.to_thread(psutil.wait_procs, family, _END_SECONDS)
        for each in left:
            each.kill()
        assert not left
    finally:
        shutil.rmtree(place)

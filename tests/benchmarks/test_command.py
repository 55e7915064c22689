from __future__ import annotations

import asyncio
import json
import os
import pkgutil
import shutil
import signal
import sys
from pathlib import Path

import httpx
import psutil
import pytest
from valkey.asyncio import Valkey

from benchmarks import lines
from benchmarks.__main__ import all_lines, chosen_lines
from benchmarks.load.wrk import LoadError
from benchmarks.peers.bare import SIZES, running_bare
from tests.support.api import make_data_dir

ROOT = Path(__file__).parents[2]
needs_wrk = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")


def test_every_module_of_lines_is_a_topic() -> None:
    assert {module.name for module in pkgutil.iter_modules(lines.__path__)} == set(lines.TOPICS)


def test_every_line_has_a_key_of_its_own() -> None:
    keys = [line.key for line in all_lines()]
    assert len(keys) == len({*keys})


def test_lines_are_chosen_by_key_or_by_whether_they_are_quick() -> None:
    every = all_lines()
    named = ["meta-100k", "file-3m"]
    assert chosen_lines(every, [], quick=True) == [line for line in every if line.quick]
    assert chosen_lines(every, [], quick=False) == every
    assert [line.key for line in chosen_lines(every, named, quick=True)] == named
    with pytest.raises(LoadError, match="There is no line what"):
        chosen_lines(every, ["what"], quick=False)


async def test_the_bare_application_answers_from_memory_and_from_valkey(
    valkey_url: str, tmp_path: Path
) -> None:
    async with Valkey.from_url(valkey_url) as valkey:
        await valkey.set("passed-through", b"what Valkey has")
    with running_bare(tmp_path, b'{"a": 1}', valkey_url, processes=1) as bare:
        async with httpx.AsyncClient(base_url=bare.url) as client:
            described = await client.get("/json")
            assert described.json() == {"a": 1}
            assert described.headers["content-type"] == "application/json"
            assert (await client.get("/valkey/passed-through")).content == b"what Valkey has"
            for size in SIZES:
                assert len((await client.get(f"/bytes/{size}")).content) == size


async def start(*arguments: str | Path, temporary: Path) -> asyncio.subprocess.Process:
    """Run the command, its files in a directory of its own."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks", *arguments),
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(temporary)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


@needs_wrk
async def test_a_run_that_is_stopped_leaves_nothing_behind() -> None:
    temporary = make_data_dir()
    try:
        process = await start("--only", "meta-hot", "--out", temporary / "out", temporary=temporary)
        async with asyncio.timeout(60):
            while not [*temporary.glob("chitram-bench-*/api.log")]:
                await asyncio.sleep(0.02)
            started = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(signal.SIGTERM)
            output, _ = await process.communicate()
        assert process.returncode == 130, output.decode()
        assert len(started) > 3
        assert not [each for each in started if each.is_running()]
        assert [*temporary.iterdir()] == []
    finally:
        shutil.rmtree(temporary)


@pytest.mark.long
@needs_wrk
async def test_a_line_is_measured_and_written_down() -> None:
    temporary = make_data_dir()
    try:
        arguments = ("quick", "--rounds", "1", "--only", "meta-hot", "accel-200k", "--out", temporary / "out")
        process = await start(*arguments, temporary=temporary)
        output, _ = await process.communicate()
        told = json.loads((temporary / "out" / "latest.json").read_bytes())
        assert [line["kind"] for line in told["lines"]] == ["ratio", "ratio"]
        for line in told["lines"]:
            for side in (line["ours"], line["peer"]):
                assert side["errors"] == 0, output.decode()
                assert side["rate"]["median"] > 1
                assert side["cpu_ms"] > 0
                assert side["peak_mib"] > 1
        assert [path.name for path in temporary.iterdir()] == ["out"]
    finally:
        shutil.rmtree(temporary)

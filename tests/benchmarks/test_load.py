from __future__ import annotations

import asyncio
import shutil
import sys
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.load.wrk import LoadError, Seen, require_wrk, sample_of, wrk
from benchmarks.processes import watching

SEEN = Seen(
    requests=1000,
    microseconds=500_000,
    bytes=200_000,
    broken=0,
    refused=0,
    p50=1000,
    p95=2000,
    p99=3000,
    cpu_seconds=0.25,
)
needs_wrk = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")


def replaced(**fields: int) -> Seen:
    return Seen(**{**{name: getattr(SEEN, name) for name in Seen.__struct_fields__}, **fields})


def test_a_sample_has_rates_a_second_times_in_milliseconds_and_cpu_for_each_request() -> None:
    sample = sample_of(SEEN, 0.1, 30, 200)
    assert (sample.rate, sample.p50_ms, sample.p95_ms, sample.p99_ms) == (2000, 1, 2, 3)
    assert (sample.cpu_ms, sample.peak_mib, sample.errors, sample.load_cores) == (0.1, 30, 0, 0.5)


def test_answers_with_another_status_are_errors_and_count_in_no_rate() -> None:
    sample = sample_of(replaced(refused=100, broken=3), 0.1, 30, 200)
    assert (sample.rate, sample.errors) == (1800, 103)


def test_answers_that_are_too_short_are_errors() -> None:
    assert sample_of(SEEN, 0.1, 30, 201).errors == 1000


def test_a_load_in_which_nothing_was_answered_is_a_sample_too() -> None:
    assert sample_of(replaced(requests=0, bytes=0), 0.1, 30, 200).rate == 0


def test_that_wrk_is_missing_is_said_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(LoadError, match="apt-get install wrk"):
        require_wrk()


class Answering:
    """A server that counts the paths it is asked for."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            method, path, _ = line.decode().split()
            fields = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            self.asked[f"{method} {path} {'x-y: z' in fields}"] += 1
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody")
        writer.close()


@needs_wrk
async def test_wrk_asks_for_the_paths_of_a_file_in_order_or_at_random(tmp_path: Path) -> None:
    paths = tmp_path / "paths"
    paths.write_text("".join(f"/{number}\n" for number in range(10)))
    answering = Answering()
    async with await asyncio.start_server(answering.serve, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        swept = await wrk(url, 1, connections=1, threads=1, paths=paths, first=0, fields={"X-Y": "z"})
        counts = [answering.asked[f"GET /{number} True"] for number in range(10)]
        assert max(counts) - min(counts) <= 1
        assert swept.requests > 10
        assert (swept.broken, swept.refused) == (0, 0)
        answering.asked.clear()
        random = await wrk(url, 1, connections=2, threads=2, paths=paths)
        assert len(answering.asked) == 10
        assert random.bytes >= random.requests * 4


@needs_wrk
async def test_what_wrk_says_of_a_server_that_is_not_there_is_told() -> None:
    with pytest.raises(LoadError, match="unable to connect"):
        await wrk("http://127.0.0.1:1", 1)


async def test_processes_below_those_watched_are_counted_those_ended_too() -> None:
    spin = "import time\nwhile time.process_time() < 0.3: pass"
    below = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {spin!r}])"
    program = (
        "import subprocess, sys; print(flush=True); sys.stdin.readline();"
        f" subprocess.run([sys.executable, '-c', {below!r}]); print(flush=True); sys.stdin.read()"
    )
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdin=pipe, stdout=pipe)
    assert child.stdout
    assert child.stdin
    await child.stdout.readline()
    async with watching([child.pid]) as usage:
        child.stdin.write(b"\n")
        await child.stdout.readline()
    child.stdin.close()
    await child.wait()
    assert 0.3 <= usage.cpu_seconds < 10
    assert usage.peak_mib > 1

"""Load by wrk, which costs a tenth of what it measures."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType

import msgspec

from benchmarks.model import Run, Sample
from benchmarks.processes import watching
from chitram.platform.embedded.process import die_with_parent

CONNECTIONS = 64
# One thread would be the bottleneck where nginx sends files.
THREADS = 2
_SCRIPT = Path(__file__).with_name("wrk.lua")
# An answer that takes longer counts as an error.
_TIMEOUT_SECONDS = 5
_NO_FIELDS: Mapping[str, str] = MappingProxyType({})


class Seen(msgspec.Struct, frozen=True):
    """What wrk saw.

    Attributes:
        requests: answers with a status below 400.
        microseconds: how long it took.
        bytes: of all answers, with their heads.
        broken: connections that broke, and answers that did not come.
        refused: answers with another status.
        p50: of the times of answers, in microseconds; likewise the next two.
        cpu_seconds: processor time of wrk itself.
    """

    requests: int
    microseconds: int
    bytes: int
    broken: int
    refused: int
    p50: int
    p95: int
    p99: int
    cpu_seconds: float


class LoadError(Exception):
    """wrk could not do it; the message is what it said."""


def require_wrk() -> None:
    """Raise `LoadError` where wrk is not installed."""
    if shutil.which("wrk") is None:
        raise LoadError("wrk is missing, which makes the load: on Debian `apt-get install wrk`.")


async def wrk(
    url: str,
    seconds: float,
    *,
    connections: int = CONNECTIONS,
    threads: int = THREADS,
    fields: Mapping[str, str] = _NO_FIELDS,
    paths: Path | None = None,
    first: int | None = None,
) -> Seen:
    """Ask over and over for so long. Raises `LoadError`.

    Args:
        fields: of the head of every request.
        paths: file of those to ask for, one a line, in the place of that in `url`.
        first: line of that file to begin with, from 0, one after the other (with one thread); None asks at
            random.
    """
    environment = {"BENCH_SEED": str(int.from_bytes(os.urandom(2), "big"))}
    environment |= {"BENCH_PATHS": str(paths)} if paths else {}
    environment |= {} if first is None else {"BENCH_FROM": str(first)}
    # wrk takes whole seconds, and milliseconds not at all.
    options = ["-c", connections, "-t", threads, "-d", f"{max(1, round(seconds))}s"]
    options += ["--timeout", f"{_TIMEOUT_SECONDS}s", "-s", _SCRIPT]
    for name, value in fields.items():
        options += ["-H", f"{name}: {value}"]
    process = await asyncio.create_subprocess_exec(
        "wrk",
        *(str(option) for option in options),
        url,
        env=os.environ | environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        preexec_fn=partial(die_with_parent, os.getpid()),
    )
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    said = output.decode(errors="replace").strip()
    try:
        return msgspec.json.decode(said.rpartition("\n")[2], type=Seen)
    except msgspec.DecodeError:
        raise LoadError(f"wrk said: {said}") from None


def asking(
    url: str,
    roots: Iterable[int],
    *,
    least_bytes: int,
    connections: int = CONNECTIONS,
    fields: Mapping[str, str] = _NO_FIELDS,
    paths: Path | None = None,
) -> Run:
    """A side that asks for what is there; see `wrk`.

    Args:
        roots: ids of the processes measured.
        least_bytes: of one answer; where there were less, all answers count as errors.
    """
    watched = tuple(roots)

    async def run(seconds: float) -> Sample:
        async with watching(watched) as usage:
            seen = await wrk(url, seconds, connections=connections, fields=fields, paths=paths)
        return sample_of(seen, usage.cpu_seconds, usage.peak_mib, least_bytes)

    return run


def sample_of(seen: Seen, cpu_seconds: float, peak_mib: float, least_bytes: int) -> Sample:
    """What a run was, of what wrk saw and of what the servers used meanwhile."""
    good = seen.requests - seen.refused
    whole = seen.bytes >= good * least_bytes
    return Sample(
        rate=good / seen.microseconds * 1e6,
        p50_ms=seen.p50 / 1000,
        p95_ms=seen.p95 / 1000,
        p99_ms=seen.p99 / 1000,
        errors=seen.broken + seen.refused + (0 if whole else good),
        cpu_ms=cpu_seconds * 1000 / max(1, good),
        peak_mib=peak_mib,
        load_cores=seen.cpu_seconds / seen.microseconds * 1e6,
    )

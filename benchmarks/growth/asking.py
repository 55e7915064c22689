"""Loads on one API: many cheap reads by wrk, and few connections that change something."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.load.uploads import percentile, upload
from benchmarks.load.wrk import sample_of, wrk
from benchmarks.model import Sample
from benchmarks.photos import of_bytes
from benchmarks.processes import watching
from benchmarks.stack import Stack
from tests.support.steady_load import Client, Request
from tests.support.steady_load import Sample as Answer

PHOTO_BYTES = 200_000
_CAPACITY = {429, 503}
_NO_FIELDS: Mapping[str, str] = {}


async def read(
    stack: Stack,
    paths: Sequence[str],
    connections: int,
    seconds: float,
    *,
    fields: Mapping[str, str] = _NO_FIELDS,
    first: int | None = None,
) -> Sample:
    """Read paths at random, or from the `first` on one after the other."""
    with _lines(paths) as file:
        async with watching(stack.roots()) as usage:
            seen = await wrk(
                *(stack.url, seconds),
                connections=connections,
                threads=min(2, connections) if first is None else 1,
                fields=fields,
                paths=file,
                first=first,
            )
    return sample_of(seen, usage.cpu_seconds, usage.peak_mib, least_bytes=0)


@contextlib.contextmanager
def _lines(paths: Sequence[str]) -> Iterator[Path]:
    with tempfile.NamedTemporaryFile("w", suffix=".paths") as file:
        file.write("".join(f"{path}\n" for path in paths))
        file.flush()
        yield Path(file.name)


async def put(stack: Stack, connections: int, count: int) -> Sample:
    """Upload so many photographs of 200 KB, no two the same."""
    with tempfile.NamedTemporaryFile(suffix=".jpg") as file:
        file.write(of_bytes(PHOTO_BYTES))
        file.flush()
        async with watching(stack.roots()) as usage:
            seen = await upload(stack.api.host, connections, Path(file.name), count=count)
    return seen.sample(usage)


async def ask(stack: Stack, requests: Iterator[Request], connections: int, expected: int) -> Sample:
    """Send every request once, each to be answered with this status."""
    began, answers = time.monotonic(), list[Answer]()

    async def one_after_another(client: Client) -> None:
        for request in requests:
            answers.append(await client.ask(request))

    async with watching(stack.roots()) as usage, Client(stack.url) as client:
        await asyncio.gather(*(one_after_another(client) for _ in range(connections)))
    seconds = time.monotonic() - began
    good = [answer.seconds for answer in answers if answer.status == expected]
    refused = sum(answer.status in _CAPACITY for answer in answers)
    return Sample(
        rate=len(good) / seconds,
        p50_ms=percentile(good, 50),
        p95_ms=percentile(good, 95),
        p99_ms=percentile(good, 99),
        errors=len(answers) - len(good) - refused,
        refusals=refused,
        cpu_ms=usage.cpu_seconds * 1000 / max(1, len(good)),
        peak_mib=usage.peak_mib,
    )

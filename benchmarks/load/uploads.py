"""Uploads by their bare bytes as fast as they are answered, from a process of its own.

As a program: `python -m benchmarks.load.uploads HOST PORT CONNECTIONS SECONDS COUNT FILE` keeps so many
connections busy, each with one upload at a time, for so long or until so many are begun (0: without end),
and prints what it saw as JSON. The density that JFIF tells of a JPEG is another in each upload, so that no
two have the same bytes and nothing is copied to make them so; any other file is sent as it is.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import struct
import sys
import time
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import cast

import msgspec
import uvloop

from benchmarks.model import Sample
from benchmarks.processes import Usage
from chitram.platform.embedded.process import die_with_parent

ROOT = Path(__file__).parents[2]
# Where JFIF has its two densities, 16 bits each (T.871, 10.1).
_DENSITY = slice(14, 18)
_NO_CAPACITY = {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}
_BROKEN_SECONDS = 0.1
_LONGEST_WAIT_SECONDS = 1.0


class Seen(msgspec.Struct):
    """What came of the uploads.

    Attributes:
        seconds: how long the load lasted.
        cpu_seconds: processor time of the client.
        times: seconds from the first byte sent to the end of the answer, of what was accepted.
        refused: how often each code of a refusal for want of capacity came.
        failed: how often each other status came; 0 is a connection that broke, or was not made.
    """

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    times: list[float] = []
    refused: dict[str, int] = {}
    failed: dict[int, int] = {}

    def sample(self, used: Usage | None = None) -> Sample:
        """What was seen as a sample, with what the servers used meanwhile."""
        accepted = len(self.times)
        p50, p95, p99 = (percentile(self.times, each) for each in (50, 95, 99))
        return Sample(
            rate=accepted / self.seconds,
            p50_ms=p50,
            p95_ms=p95,
            p99_ms=p99,
            errors=sum(self.failed.values()),
            refusals=sum(self.refused.values()),
            cpu_ms=used.cpu_seconds * 1000 / accepted if used and accepted else None,
            peak_mib=used.peak_mib if used else None,
            load_cores=self.cpu_seconds / self.seconds,
        )


def percentile(seconds: list[float], percent: float) -> float | None:
    """The time in milliseconds within which so many percent of the answers came; None without any."""
    if not seconds:
        return None
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] * 1000


async def upload(
    host: tuple[str, int], connections: int, file: Path, *, seconds: float = 600.0, count: int = 0
) -> Seen:
    """Run the program above and return what it saw; raises `RuntimeError` when it failed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", __name__, *(str(each) for each in (*host, connections, seconds, count, file))),
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
        preexec_fn=partial(die_with_parent, os.getpid()),
    )
    try:
        output, _ = await process.communicate()
    except BaseException:
        process.kill()
        await process.wait()
        raise
    if process.returncode:
        raise RuntimeError(f"the upload client ended with status {process.returncode}")
    try:
        return msgspec.json.decode(output, type=Seen, strict=False)
    except msgspec.DecodeError as error:
        raise RuntimeError(f"the upload client said {output[:200]!r}") from error


class _Load:
    """What all connections share."""

    def __init__(self, photo: bytes, seconds: float, count: int) -> None:
        head = f"POST /api/v1/images HTTP/1.1\r\nHost: x\r\nContent-Length: {len(photo)}\r\n\r\n"
        self._is_numbered = photo[6:11] == b"JFIF\0"
        self._start = head.encode() + photo[: _DENSITY.start]
        self.rest = memoryview(photo)[_DENSITY.stop if self._is_numbered else _DENSITY.start :]
        self._number = secrets.randbits(32)
        self._left = count or -1
        self.began = time.monotonic()
        self.deadline = self.began + seconds
        self.seen = Seen()

    @property
    def is_over(self) -> bool:
        return not self._left or time.monotonic() >= self.deadline

    def next(self) -> bytes:
        """The beginning of another upload, as far as it differs from others."""
        self._left -= 1
        if not self._is_numbered:
            return self._start
        self._number = (self._number + 1) % (1 << 32)
        return self._start + struct.pack(">I", self._number)

    def note(self, status: int, body: bytes, began: float) -> None:
        now = time.monotonic()
        if status == HTTPStatus.CREATED:
            # What comes later was not done in this time.
            if now <= self.deadline:
                self.seen.times.append(now - began)
        elif status in _NO_CAPACITY:
            code = msgspec.json.decode(body)["error"]["code"]
            self.seen.refused[code] = self.seen.refused.get(code, 0) + 1
        else:
            self.seen.failed[status] = self.seen.failed.get(status, 0) + 1


class _Connection(asyncio.Protocol):
    """One connection, with one upload at a time, until the load is over or it breaks."""

    def __init__(self, load: _Load) -> None:
        self._load = load
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.WriteTransport | None = None
        self._began: float | None = None
        self._answer = bytearray()
        self._again: asyncio.Handle | None = None
        self._again_at = 0.0
        self.ended: asyncio.Future[None] = self._loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # That of uvloop is none by its class.
        self._transport = cast("asyncio.WriteTransport", transport)
        self._send()

    def _send(self) -> None:
        assert self._transport is not None  # noqa: S101 - connected
        if self._load.is_over:
            self._transport.close()
            return
        self._began = time.monotonic()
        self._transport.writelines((self._load.next(), self._load.rest))

    def data_received(self, data: bytes) -> None:
        self._answer += data
        head, found, body = bytes(self._answer).partition(b"\r\n\r\n")
        if not found or len(body) < _number(head, b"content-length"):
            return
        self._answer.clear()
        began, self._began = self._began, None
        status = int(head[9:12])
        self._load.note(status, body, began or 0.0)
        if status == HTTPStatus.CREATED:
            self._send()
        else:
            wait = min(_number(head, b"retry-after"), _LONGEST_WAIT_SECONDS)
            self._again_at = self._loop.time() + wait
            self._again = self._loop.call_later(wait, self._send)

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 - of the protocol
        if self._began is not None:
            self._load.note(0, b"", self._began)
        if self._again is not None:
            self._again.cancel()
        self.ended.set_result(None)

    @property
    def rest_seconds(self) -> float:
        """How long its successor has to wait: what is left of what a refusal has asked for, or a moment."""
        return max(_BROKEN_SECONDS, self._again_at - self._loop.time())


def _number(head: bytes, name: bytes) -> int:
    """A number from a header field; 0 without one."""
    for line in head.split(b"\r\n"):
        field, _, value = line.partition(b":")
        if field.lower() == name:
            return int(value)
    return 0


async def _run(host: tuple[str, int], connections: int, load: _Load) -> Seen:
    loop = asyncio.get_running_loop()

    async def keep() -> None:
        while not load.is_over:
            rest = _BROKEN_SECONDS
            try:
                _, connection = await loop.create_connection(lambda: _Connection(load), *host)
            except OSError:
                load.note(0, b"", time.monotonic())
            else:
                await connection.ended
                rest = connection.rest_seconds
            if not load.is_over:
                await asyncio.sleep(rest)

    cpu = time.process_time()
    await asyncio.gather(*(keep() for _ in range(connections)))
    load.seen.seconds = min(time.monotonic(), load.deadline) - load.began
    load.seen.cpu_seconds = time.process_time() - cpu
    return load.seen


def _main(host: str, port: str, connections: str, seconds: str, count: str, file: str) -> None:
    load = _Load(Path(file).read_bytes(), float(seconds), int(count))
    seen = uvloop.run(_run((host, int(port)), int(connections), load))
    # Where PYTHONUNBUFFERED is set, `sys.stdout` writes what fits into the pipe, and no more.
    with open(sys.stdout.fileno(), "wb", closefd=False) as output:
        output.write(msgspec.json.encode(seen))


if __name__ == "__main__":
    _main(*sys.argv[1:])

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from benchmarks.load.uploads import upload
from benchmarks.peers.sink import running_sink
from tests.support.photos import jpeg, pixels, png

_CREATED = (201, b"{}")
_REFUSED = (503, b'{"error": {"code": "UPLOAD_CAPACITY_EXCEEDED"}}')
_FAILED = (422, b'{"error": {"code": "CORRUPT_IMAGE"}}')


@contextlib.asynccontextmanager
async def _server(
    answers: Sequence[tuple[int, bytes] | None], bodies: list[bytes]
) -> AsyncIterator[tuple[str, int]]:
    """Answer requests in turn, the last answer again and again; None closes the connection."""
    left = [*answers]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = int(head.partition(b"content-length: ")[2].split(b"\r\n")[0])
                bodies.append(await reader.readexactly(length))
                answer = left.pop(0) if len(left) > 1 else left[0]
                if answer is None:
                    break
                status, body = answer
                writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()


def _file(folder: Path, content: bytes) -> Path:
    path = folder / "photo"
    path.write_bytes(content)
    return path


async def test_each_upload_is_the_photograph_with_bytes_of_its_own(tmp_path: Path) -> None:
    bodies: list[bytes] = []
    photo = jpeg()
    async with _server([_CREATED], bodies) as host:
        seen = await upload(host, 3, _file(tmp_path, photo), count=9)
    assert len(seen.times) == len({*bodies}) == len(bodies) == 9
    assert {body[:14] + body[18:] for body in bodies} == {photo[:14] + photo[18:]}
    assert (pixels(bodies[0]) == pixels(photo)).all()


async def test_what_has_no_density_is_sent_as_it_is(tmp_path: Path) -> None:
    bodies: list[bytes] = []
    async with _server([_CREATED], bodies) as host:
        await upload(host, 1, _file(tmp_path, png()), count=2)
    assert bodies == [png()] * 2


async def test_refusals_and_failures_are_told_apart_from_what_was_accepted(tmp_path: Path) -> None:
    answers = [_CREATED, _REFUSED, _FAILED, None, _CREATED]
    async with _server(answers, []) as host:
        seen = await upload(host, 1, _file(tmp_path, jpeg()), count=6)
    assert len(seen.times) == 3
    assert seen.refused == {"UPLOAD_CAPACITY_EXCEEDED": 1}
    assert seen.failed == {422: 1, 0: 1}
    sample = seen.sample()
    assert (sample.errors, sample.refusals) == (2, 1)
    assert sample.rate == pytest.approx(3 / seen.seconds)


async def test_a_refusal_is_obeyed_on_the_next_connection_too(tmp_path: Path) -> None:
    times: list[float] = []

    async def refuse_and_close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        times.append(asyncio.get_running_loop().time())
        head = f"HTTP/1.1 503 X\r\nRetry-After: 1\r\nContent-Length: {len(_REFUSED[1])}\r\n\r\n"
        writer.write(head.encode() + _REFUSED[1])
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(refuse_and_close, "127.0.0.1", 0) as server:
        seen = await upload(server.sockets[0].getsockname(), 1, _file(tmp_path, jpeg()), count=2)
    assert seen.refused == {"UPLOAD_CAPACITY_EXCEEDED": 2}
    assert times[1] - times[0] >= 0.99


async def test_connections_that_are_not_made_are_failures(tmp_path: Path) -> None:
    async with _server([_CREATED], []) as host:
        pass
    seen = await upload(host, 2, _file(tmp_path, jpeg()), seconds=0.2)
    assert seen.failed[0] >= 2
    assert not seen.times


async def test_the_load_ends_with_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # With which a long answer went into the pipe in part.
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")
    async with running_sink() as sink:
        seen = await upload(sink, 2, _file(tmp_path, jpeg()), seconds=0.2)
    assert seen.seconds == pytest.approx(0.2)
    assert seen.times
    assert not seen.failed

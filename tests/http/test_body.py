from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path

import pytest
from litestar.types import HTTPReceiveMessage, Receive, Scope, Send

from chitram.kernel.errors import ChitramError, FileTooLarge, InvalidRequest, StorageUnavailable
from chitram.platform.http.body import (
    ClientDisconnected,
    DrainUnread,
    UploadTimeout,
    chunks,
    drain,
    read_raw,
)
from chitram.platform.spool import IN_MEMORY_BYTES, Spool
from tests.http.asgi import Receiver, Sender, open_files_in, scope_of, sender

# Does not stay in memory.
LONG = bytes(IN_MEMORY_BYTES + 1)


async def read(
    receive: Receive, directory: Path, *, length: int | None = None, limit: int = 1000, seconds: float = 5
) -> Spool:
    return await read_raw(receive, length, limit=limit, seconds=seconds, spool_directory=directory)


async def test_a_body_is_spooled_counted_and_hashed(tmp_path: Path) -> None:
    body = os.urandom(1000)
    with await read(sender(body[:1], b"", body[1:400], body[400:]), tmp_path, length=1000) as spool:
        assert spool.size == 1000
        assert spool.sha256 == hashlib.sha256(body).digest()
        assert os.pread(spool.fileno(), 2000, 0) == body


@pytest.mark.parametrize("length", [1000, len(LONG)])
async def test_the_digest_of_a_body_is_told_whenever_it_is_asked_for(tmp_path: Path, length: int) -> None:
    body = os.urandom(length)
    with await read(sender(body), tmp_path, limit=length) as asked_twice:
        assert asked_twice.sha256 == asked_twice.sha256 == hashlib.sha256(body).digest()
    with await read(sender(body), tmp_path, limit=length) as closed_before:
        pass
    assert closed_before.sha256 == hashlib.sha256(body).digest()


async def test_an_announced_length_over_the_limit_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    client = Sender([b"x"])
    with pytest.raises(FileTooLarge) as refusal:
        await read(client, tmp_path, length=1001)
    assert refusal.value.details == {"max_bytes": 1000}
    assert client.asked == 0


async def test_an_unannounced_body_is_refused_as_soon_as_the_limit_is_passed(tmp_path: Path) -> None:
    client = Sender([b"x" * 500] * 100)
    with pytest.raises(FileTooLarge):
        await read(client, tmp_path)
    assert client.asked == 3
    assert open_files_in(tmp_path) == 0


async def test_an_unannounced_body_is_refused_for_one_byte_too_many(tmp_path: Path) -> None:
    with pytest.raises(FileTooLarge):
        await read(sender(b"x" * 1000, b"x"), tmp_path)


async def test_an_empty_body_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="empty"):
        await read(sender(b"", b""), tmp_path, length=0)
    assert open_files_in(tmp_path) == 0


async def test_a_body_that_falls_silent_is_refused_at_the_deadline(tmp_path: Path) -> None:
    started = asyncio.get_running_loop().time()
    with pytest.raises(UploadTimeout):
        await read(sender(b"x", then="silence"), tmp_path, seconds=0.05)
    assert asyncio.get_running_loop().time() - started < 2
    assert open_files_in(tmp_path) == 0


async def test_the_deadline_counts_for_a_body_that_never_makes_us_wait() -> None:
    async def endless() -> HTTPReceiveMessage:
        return {"type": "http.request", "body": b"x", "more_body": True}

    with pytest.raises(UploadTimeout):
        async for _ in chunks(endless, deadline_seconds=0.05):
            pass


async def test_there_is_more_time_for_bytes_that_have_come() -> None:
    async def endless() -> HTTPReceiveMessage:
        return {"type": "http.request", "body": b"x", "more_body": True}

    started = asyncio.get_running_loop().time()
    async for _ in chunks(endless, deadline_seconds=0.2, extended_by_bytes=10):
        if asyncio.get_running_loop().time() - started > 0.5:
            return
    pytest.fail("it does not end")


async def test_a_client_that_leaves_in_the_middle_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ClientDisconnected):
        await read(sender(b"x", then="disconnect"), tmp_path, length=10)
    assert open_files_in(tmp_path) == 0


async def test_a_cancelled_read_leaves_no_file_open(tmp_path: Path) -> None:
    client = Sender([LONG], then="silence")
    reading = asyncio.create_task(read(client, tmp_path, limit=2 * len(LONG)))
    while client.asked < 2:
        await asyncio.sleep(0)
    assert open_files_in(tmp_path) == 1
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert open_files_in(tmp_path) == 0


async def test_a_spool_directory_that_is_gone_is_told_as_unavailable_storage(tmp_path: Path) -> None:
    with pytest.raises(StorageUnavailable):
        await read(sender(LONG), tmp_path / "gone", limit=len(LONG))


@pytest.mark.parametrize("more", [0, 1])
async def test_a_body_touches_the_disk_only_when_it_is_long(tmp_path: Path, more: int) -> None:
    body = os.urandom(IN_MEMORY_BYTES + more)
    with await read(sender(body[:1000], body[1000:]), tmp_path, limit=len(body)) as spool:
        assert open_files_in(tmp_path) == more
        assert spool.sha256 == hashlib.sha256(body).digest()
        assert os.pread(spool.fileno(), len(body) + 1, 0) == body


@pytest.mark.parametrize(
    ("error", "code"), [(UploadTimeout(), "UPLOAD_TIMEOUT"), (FileTooLarge(), "FILE_TOO_LARGE")]
)
def test_refusals_have_the_codes_that_clients_know(error: ChitramError, code: str) -> None:
    assert error.code == code


async def test_draining_reads_to_the_end_of_the_body() -> None:
    client = Sender([b"x" * 100] * 5)
    await drain(client)
    assert client.asked == 6


async def test_draining_stops_at_its_number_of_bytes() -> None:
    client = Sender([b"x" * 100] * 50)
    await drain(client, max_bytes=250)
    assert client.asked == 3


async def test_draining_stops_when_the_client_leaves() -> None:
    client = Sender([b"x"], then="disconnect")
    await drain(client)
    assert client.asked == 2


async def test_draining_waits_no_longer_than_it_may_for_a_silent_client() -> None:
    async with asyncio.timeout(2):
        await drain(sender(b"x", then="silence"), idle_seconds=0.02)
        await drain(sender(b"x", then="silence"), seconds=0.02, idle_seconds=100)


async def refuse(_: Scope, receive: Receive, send: Send) -> None:
    """An application that answers after the first piece of a body."""
    await receive()
    await send({"type": "http.response.start", "status": 413, "headers": []})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def test_what_an_application_left_unread_is_drained_after_its_answer() -> None:
    client, answer = Sender([b"x"] * 10), Receiver()
    await DrainUnread(refuse)(scope_of("POST", [(b"transfer-encoding", b"chunked")]), client, answer)
    assert answer.complete
    assert client.asked == 11


async def test_nothing_is_drained_after_a_body_that_was_read_whole() -> None:
    client = Sender([], then="end")
    await DrainUnread(refuse)(scope_of("POST", [(b"content-length", b"1")]), client, Receiver())
    assert client.asked == 1


async def test_nothing_is_drained_when_the_answer_was_broken_off() -> None:
    async def break_off(_: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"", "more_body": True})

    client = Sender([b"x"] * 10)
    await DrainUnread(break_off)(scope_of("POST", [(b"content-length", b"10")]), client, Receiver())
    assert client.asked == 1


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"content-length", b"0")],
        [(b"content-length", b"10"), (b"expect", b"100-continue")],
    ],
)
async def test_nothing_is_drained_of_a_request_that_sends_nothing(headers: list[tuple[bytes, bytes]]) -> None:
    async def answer(_: Scope, __: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 429, "headers": []})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    client = Sender([b"x"] * 10)
    await DrainUnread(answer)(scope_of("POST", headers), client, Receiver())
    assert client.asked == 0

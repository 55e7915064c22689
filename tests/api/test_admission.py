"""Uploads wait for one of the instance's slots before they are read, and everything else goes on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import psutil
import pytest

from chitram.platform.slot_locks import SlotLocks, now
from tests.api.conftest import StartApi
from tests.support.api import UPLOAD, Api
from tests.support.connections import connection
from tests.support.photos import jpeg

RAW = "/api/v1/images"
# Within this, what has to happen happens.
PATIENT = 20.0


class SlowUpload:
    """An upload of which one byte is sent, until its client goes away."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    @classmethod
    async def begin(cls, api: Api) -> SlowUpload:
        _, writer = await asyncio.open_connection(*api.host)
        writer.write(b"POST /api/v1/images HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nx")
        await writer.drain()
        return cls(writer)

    async def leave(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


async def taken(api: Api, count: int) -> None:
    """Return when `count` slots of an API are taken, which anyone can see by the locks."""
    await _until(api, lambda slots: slots.taken_elsewhere() == count)


async def somebody_waits(api: Api, *, expected: bool) -> None:
    """Return when somebody waits for a slot of an API, or when nobody does."""
    await _until(api, lambda slots: slots.is_next(now()) is not expected)


async def _until(api: Api, seen: Callable[[SlotLocks], bool]) -> None:
    slots = SlotLocks(api.data_dir / "upload-slots", 512)
    try:
        async with asyncio.timeout(PATIENT):
            while not seen(slots):
                await asyncio.sleep(0.01)
    finally:
        slots.close()


@contextlib.asynccontextmanager
async def slow_uploads(api: Api, count: int) -> AsyncIterator[list[SlowUpload]]:
    """Uploads that each hold a slot."""
    uploads = [await SlowUpload.begin(api) for _ in range(count)]
    try:
        await taken(api, count)
        yield uploads
    finally:
        for each in uploads:
            await each.leave()


def refusal(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


@pytest.fixture(scope="module")
async def small(start_api: StartApi) -> AsyncIterator[Api]:
    """Two processes that share two slots, and hold one connection to read and one to write each."""
    async with start_api(
        HTTP_WORKERS=2, UPLOAD_CONCURRENCY=2, UPLOAD_WAIT_SECONDS=2, DATABASE_POOL_SIZE=1
    ) as api:
        yield api


async def test_beyond_the_slots_of_all_processes_uploads_wait_and_are_refused_in_time(small: Api) -> None:
    async with slow_uploads(small, 2):
        began = time.monotonic()
        answers = await asyncio.gather(
            small.upload(jpeg()),
            small.client.post(RAW, content=jpeg()),
            small.client.post("/api/v1/images/batch", files={"files": ("a.jpg", jpeg())}),
        )
        assert time.monotonic() - began >= 2
        for answer in answers:
            assert refusal(answer) == (503, "UPLOAD_CAPACITY_EXCEEDED")
            assert int(answer.headers["retry-after"]) > 0
    await taken(small, 0)
    assert (await small.upload(jpeg())).status_code == 201


async def test_a_waiting_upload_goes_on_when_another_ends(small: Api) -> None:
    async with slow_uploads(small, 2) as slow:
        waiting = asyncio.create_task(small.upload(jpeg()))
        await somebody_waits(small, expected=True)
        assert not waiting.done()
        await slow[0].leave()
        assert (await waiting).status_code == 201


async def test_reads_and_deletions_need_no_slot_and_no_connection_of_an_upload(small: Api) -> None:
    """Each process has one connection to write with, which neither stalled upload holds."""
    uploaded = await small.uploaded(jpeg())
    async with slow_uploads(small, 2):
        for _ in range(10):
            assert (await small.client.get(f"/api/v1/images/{uploaded['id']}")).status_code == 200
        assert (await small.client.get(uploaded["url"])).status_code == 200
        gone = await small.client.delete(
            f"/api/v1/images/{uploaded['id']}", params={"delete_token": uploaded["delete_token"]}
        )
        assert gone.status_code == 204


async def test_an_upload_that_is_being_decoded_holds_no_connection(small: Api) -> None:
    uploaded = await small.uploaded(jpeg())
    decoders = decoders_of(small)
    for decoder in decoders:
        decoder.suspend()
    try:
        uploads = [asyncio.create_task(small.upload(jpeg(200 + number, 100))) for number in range(2)]
        async with asyncio.timeout(PATIENT):
            while not any(files_being_decoded(worker) for worker in small.processes()):
                await asyncio.sleep(0.01)
        for _ in range(10):
            assert (await small.client.get(uploaded["url"])).status_code == 200
        gone = await small.client.delete(
            f"/api/v1/images/{uploaded['id']}", params={"delete_token": uploaded["delete_token"]}
        )
        assert gone.status_code == 204
        assert not any(each.done() for each in uploads)
    finally:
        for decoder in decoders:
            decoder.resume()
    assert [each.status_code for each in await asyncio.gather(*uploads)] == [201, 201]


def decoders_of(api: Api) -> list[psutil.Process]:
    children = psutil.Process(api.process.pid).children(recursive=True)
    return [child for child in children if "decoder" in " ".join(child.cmdline())]


def files_being_decoded(worker: psutil.Process) -> bool:
    """Whether a process has a spooled upload open for reading, as it has for a decoder alone."""
    for descriptor in Path(f"/proc/{worker.pid}/fdinfo").iterdir():
        with contextlib.suppress(OSError):
            target = Path(f"/proc/{worker.pid}/fd", descriptor.name).readlink()
            flags = int(descriptor.read_text().split()[3], 8)
            is_spool = "/spool/" in str(target) or "memfd:spool" in str(target)
            if is_spool and flags & os.O_ACCMODE == os.O_RDONLY:
                return True
    return False


async def test_a_client_that_leaves_while_it_waits_leaves_the_queue(start_api: StartApi) -> None:
    settings = {"HTTP_WORKERS": 1, "UPLOAD_CONCURRENCY": 1, "UPLOAD_QUEUE": 1, "UPLOAD_WAIT_SECONDS": 60}
    async with start_api(**settings) as api, slow_uploads(api, 1) as slow:
        leaving = await SlowUpload.begin(api)
        await somebody_waits(api, expected=True)
        await leaving.leave()
        await somebody_waits(api, expected=False)
        staying = asyncio.create_task(api.upload(jpeg()))
        await somebody_waits(api, expected=True)
        await slow[0].leave()
        assert (await staying).status_code == 201


async def test_who_does_not_fit_in_the_queue_is_refused_at_once(start_api: StartApi) -> None:
    async with (
        start_api(HTTP_WORKERS=2, UPLOAD_CONCURRENCY=1, UPLOAD_QUEUE=0, UPLOAD_WAIT_SECONDS=60) as api,
        slow_uploads(api, 1),
    ):
        async with asyncio.timeout(PATIENT):
            answer = await api.client.post(UPLOAD, files={"file": ("a.jpg", jpeg())})
        assert refusal(answer) == (503, "UPLOAD_CAPACITY_EXCEEDED")


async def test_a_killed_process_frees_its_slots(start_api: StartApi) -> None:
    async with start_api(HTTP_WORKERS=2, UPLOAD_CONCURRENCY=2, UPLOAD_WAIT_SECONDS=60) as api:
        async with slow_uploads(api, 2):
            _, *workers = api.processes()
            for worker in workers:
                worker.kill()
            await taken(api, 0)
        async with asyncio.timeout(PATIENT):
            while True:
                with contextlib.suppress(httpx.TransportError):
                    if (await api.upload(jpeg())).status_code == 201:
                        break
                await asyncio.sleep(0.1)
        await taken(api, 0)


@pytest.mark.only_over("local", reason="is not about the store")
async def test_a_batch_that_announces_much_and_sends_nothing_keeps_its_slot_no_longer(
    start_api: StartApi,
) -> None:
    async with (
        start_api(HTTP_WORKERS=1, UPLOAD_CONCURRENCY=1, UPLOAD_BODY_SECONDS=1) as api,
        connection(*api.host) as (reader, writer),
    ):
        writer.write(
            b"POST /api/v1/images/batch HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n"
            b"Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n"
        )
        await taken(api, 1)
        # For twenty files there would be 20 seconds.
        async with asyncio.timeout(10):
            assert b" 408 " in await reader.readline()
        await taken(api, 0)

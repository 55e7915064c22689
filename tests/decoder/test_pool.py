"""Decoders that die, hang, lie or are all busy cost one image at most, and nothing is left of them."""

from __future__ import annotations

import asyncio
import os
import resource
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import uvloop
from structlog.testing import capture_logs

from chitram.images.adapters.children import process
from chitram.images.adapters.children.process import Child, ChildNotStarted, Program
from chitram.images.adapters.decoder import pool as pool_module
from chitram.images.adapters.decoder.pool import DecoderPool
from chitram.images.adapters.decoder.protocol import Terms
from chitram.images.domain.content import Inspection, Received
from chitram.images.domain.errors import CorruptImage, UploadCapacityExceeded
from chitram.images.domain.image import ImageFormat
from chitram.kernel.errors import StorageUnavailable
from tests.decoder.conftest import NewPool, Upload, pool_of
from tests.support import photos

_ROOT = Path(__file__).parents[2]


def _pid(pool: DecoderPool) -> int:
    """Process id of the one idle decoder."""
    (decoder,) = pool._children.idle
    return decoder.pid


def _children() -> set[int]:
    return {child.pid for child in psutil.Process().children()}


def _has_ended(pid: int) -> bool:
    """Whether a child of this process has ended and was reaped."""
    return not psutil.pid_exists(pid)


async def _stopped(new_pool: NewPool, **options: Any) -> tuple[DecoderPool, Child]:
    """A pool whose one decoder does nothing until it gets SIGCONT."""
    pool = await new_pool(**options)
    (decoder,) = pool._children.idle
    os.kill(decoder.pid, signal.SIGSTOP)
    return pool, decoder


async def _begun(pool: DecoderPool, decoder: Child, received: Received) -> asyncio.Task[Inspection]:
    """Begin to inspect, as far as the decoder having its job."""
    task = asyncio.create_task(pool.inspect(received))
    while not decoder.served:
        await asyncio.sleep(0)
    return task


async def test_a_decoder_that_hangs_is_killed_and_fails_its_own_image_alone(
    new_pool: NewPool, upload: Upload
) -> None:
    pool, decoder = await _stopped(new_pool, decode_seconds=0.3)
    with pytest.raises(CorruptImage, match="within the limits"):
        await pool.inspect(upload(photos.jpeg()))
    assert _has_ended(decoder.pid)
    assert (await pool.inspect(upload(photos.jpeg()))).width == 160


async def test_an_image_whose_decoder_is_killed_is_examined_by_another(
    new_pool: NewPool, upload: Upload
) -> None:
    pool, decoder = await _stopped(new_pool)
    task = await _begun(pool, decoder, upload(photos.jpeg()))
    os.kill(decoder.pid, signal.SIGKILL)
    assert (await task).width == 160
    assert _has_ended(decoder.pid)
    assert _pid(pool) != decoder.pid


async def test_a_decoder_that_died_idle_is_noticed_before_it_gets_a_job(
    new_pool: NewPool, upload: Upload
) -> None:
    pool = await new_pool()
    pid = _pid(pool)
    dead = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    select.select([dead], [], [])
    os.close(dead)
    assert (await pool.inspect(upload(photos.jpeg()))).width == 160
    assert _has_ended(pid)


async def test_a_decoder_that_used_up_its_processor_time_gets_no_second_try(
    new_pool: NewPool, upload: Upload
) -> None:
    pool, decoder = await _stopped(new_pool)
    task = await _begun(pool, decoder, upload(photos.jpeg()))
    os.kill(decoder.pid, signal.SIGXCPU)
    os.kill(decoder.pid, signal.SIGCONT)
    with pytest.raises(CorruptImage, match="within the limits"):
        await task


async def test_an_image_that_no_decoder_survives_is_refused(
    new_pool: NewPool, upload: Upload, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stand-in ends when it gets a job, as a decoder that crashes does."""
    dying = "import socket; from chitram.images.adapters.children.frames import *; "
    dying += "s = socket.socket(fileno=0); s.recv(4096); s.sendall(frame(Ready())); s.recv(4096)"
    monkeypatch.setattr(process, "COMMAND", (sys.executable, "-P", "-c", dying))
    pool = await new_pool()
    with pytest.raises(CorruptImage, match="does not survive"):
        await pool.inspect(upload(photos.jpeg()))
    monkeypatch.undo()
    assert (await pool.inspect(upload(photos.jpeg()))).width == 160


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
async def test_a_shutdown_that_signals_every_process_lets_a_decoder_finish(
    new_pool: NewPool, upload: Upload, sent: signal.Signals
) -> None:
    pool, decoder = await _stopped(new_pool)
    task = await _begun(pool, decoder, upload(photos.jpeg()))
    os.kill(decoder.pid, sent)
    os.kill(decoder.pid, signal.SIGCONT)
    assert (await task).width == 160
    assert _pid(pool) == decoder.pid


async def test_an_upload_that_waits_too_long_is_turned_away_and_told_when_to_come_again(
    new_pool: NewPool, upload: Upload
) -> None:
    pool, decoder = await _stopped(new_pool, wait_seconds=0.1)
    busy = await _begun(pool, decoder, upload(photos.jpeg()))
    with pytest.raises(UploadCapacityExceeded) as refused:
        await pool.inspect(upload(photos.jpeg()))
    assert refused.value.retry_after == 2
    os.kill(decoder.pid, signal.SIGCONT)
    assert (await busy).width == 160
    assert (await pool.inspect(upload(photos.jpeg()))).width == 160


async def test_a_client_that_goes_away_costs_no_decoder(new_pool: NewPool, upload: Upload) -> None:
    pool, decoder = await _stopped(new_pool)
    task = await _begun(pool, decoder, upload(photos.jpeg()))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    os.kill(decoder.pid, signal.SIGCONT)
    assert (await pool.inspect(upload(photos.png()))).format is ImageFormat.PNG
    assert _pid(pool) == decoder.pid


async def test_a_client_that_goes_away_while_waiting_leaves_its_place(
    new_pool: NewPool, upload: Upload
) -> None:
    pool, decoder = await _stopped(new_pool)
    busy = await _begun(pool, decoder, upload(photos.jpeg()))
    waiting = asyncio.create_task(pool.inspect(upload(photos.jpeg())))
    await asyncio.sleep(0)
    waiting.cancel()
    os.kill(decoder.pid, signal.SIGCONT)
    assert (await busy).width == 160
    assert (await pool.inspect(upload(photos.jpeg()))).width == 160


async def _in_line(pool: DecoderPool, decoder: Child, *uploads: Received) -> list[asyncio.Task[Inspection]]:
    """Begin to inspect, as far as the decoder having been told of all."""
    tasks = [asyncio.create_task(pool.inspect(each)) for each in uploads]
    while decoder.served < len(uploads):
        await asyncio.sleep(0)
    return tasks


async def test_a_decoder_is_told_of_several_images_and_each_gets_its_own_answer(
    new_pool: NewPool, upload: Upload
) -> None:
    pool, decoder = await _stopped(new_pool)
    sides = [(16 * number, 8) for number in range(1, 9)]
    tasks = await _in_line(pool, decoder, *(upload(photos.jpeg(*side)) for side in sides))
    more = asyncio.create_task(pool.inspect(upload(photos.jpeg(16, 16))))
    os.kill(decoder.pid, signal.SIGCONT)
    assert [(each.width, each.height) for each in await asyncio.gather(*tasks, more)] == [*sides, (16, 16)]
    assert _pid(pool) == decoder.pid


@pytest.mark.parametrize("how", ["hangs", "dies", "takes too much"])
async def test_those_behind_an_image_that_fails_its_decoder_are_examined_by_another(
    new_pool: NewPool, upload: Upload, how: str
) -> None:
    pool, decoder = await _stopped(new_pool, decode_seconds=0.3 if how == "hangs" else 60.0)
    first, *others = await _in_line(
        pool, decoder, upload(photos.jpeg()), *(upload(photos.jpeg(16 * n, 8)) for n in range(1, 6))
    )
    if how != "hangs":
        os.kill(decoder.pid, signal.SIGKILL if how == "dies" else signal.SIGXCPU)
        os.kill(decoder.pid, signal.SIGCONT)
    if how == "dies":
        # It may have died of something else.
        assert (await first).width == 160
    else:
        with pytest.raises(CorruptImage, match="within the limits"):
            await first
    assert [each.width for each in await asyncio.gather(*others)] == [16, 32, 48, 64, 80]
    assert _has_ended(decoder.pid)
    assert _pid(pool) != decoder.pid


async def test_those_who_go_away_in_line_change_no_answer_of_the_others(
    new_pool: NewPool, upload: Upload
) -> None:
    pool, decoder = await _stopped(new_pool)
    tasks = await _in_line(pool, decoder, *(upload(photos.jpeg(16 * n, 8)) for n in range(1, 7)))
    for task in tasks[::2]:
        task.cancel()
    await asyncio.sleep(0)
    os.kill(decoder.pid, signal.SIGCONT)
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [each.width for each in answers[1::2] if isinstance(each, Inspection)] == [32, 64, 96]
    assert all(isinstance(each, asyncio.CancelledError) for each in answers[::2])
    assert _pid(pool) == decoder.pid


async def test_who_waits_too_long_in_line_changes_no_answer_of_the_others(
    new_pool: NewPool, upload: Upload
) -> None:
    pool, decoder = await _stopped(new_pool, wait_seconds=0.1)
    first, second = await _in_line(pool, decoder, upload(photos.jpeg(16, 8)), upload(photos.jpeg(32, 8)))
    with pytest.raises(UploadCapacityExceeded):
        await second
    third = asyncio.create_task(pool.inspect(upload(photos.jpeg(48, 8))))
    while decoder.served < 3:
        await asyncio.sleep(0)
    os.kill(decoder.pid, signal.SIGCONT)
    assert (await first).width == 16
    assert (await third).width == 48


async def test_a_decoder_that_is_never_idle_is_replaced_too(
    new_pool: NewPool, upload: Upload, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "IMAGES_PER_DECODER", 3)
    pool, decoder = await _stopped(new_pool)
    tasks = [asyncio.create_task(pool.inspect(upload(photos.jpeg(16 * n, 8)))) for n in range(1, 11)]
    while decoder.served < 3:
        await asyncio.sleep(0)
    os.kill(decoder.pid, signal.SIGCONT)
    assert [each.width for each in await asyncio.gather(*tasks)] == [16 * n for n in range(1, 11)]
    assert decoder.served == 3
    assert _pid(pool) != decoder.pid


async def test_closing_turns_away_all_in_line(new_pool: NewPool, upload: Upload) -> None:
    pool, decoder = await _stopped(new_pool)
    tasks = await _in_line(pool, decoder, *(upload(photos.jpeg()) for _ in range(5)))
    tasks[2].cancel()
    await pool.aclose()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(each) for each in answers] == [
        *(UploadCapacityExceeded,) * 2,
        asyncio.CancelledError,
        *(UploadCapacityExceeded,) * 2,
    ]
    assert _has_ended(decoder.pid)


async def test_a_refusal_that_nobody_waits_for_is_no_error_of_the_event_loop(
    new_pool: NewPool, upload: Upload
) -> None:
    unhandled: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unhandled.append(context))
    pool, decoder = await _stopped(new_pool)
    task = await _begun(pool, decoder, upload(b"no image"))
    task.cancel()
    os.kill(decoder.pid, signal.SIGCONT)
    assert (await pool.inspect(upload(photos.png()))).width == 61
    asyncio.get_running_loop().set_exception_handler(None)
    assert unhandled == []


async def test_all_decoders_that_are_allowed_are_there_before_a_burst_and_no_more_in_it(
    new_pool: NewPool, upload: Upload
) -> None:
    before = _children()
    pool = await new_pool(size=3)
    await asyncio.gather(*pool._children.tasks)
    ready = _children() - before
    assert {child.pid for child in pool._children.idle} == ready
    data = photos.jpeg(800, 600)
    await asyncio.gather(*(pool.inspect(upload(data)) for _ in range(30)))
    assert _children() - before == ready
    assert len(pool._children.idle) == len(ready) == 3
    assert all(child.served for child in pool._children.idle)


async def test_a_decoder_is_replaced_after_its_share_of_images(
    new_pool: NewPool, upload: Upload, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "IMAGES_PER_DECODER", 2)
    pool = await new_pool()
    pid = _pid(pool)
    for _ in range(3):
        assert (await pool.inspect(upload(photos.jpeg()))).width == 160
    assert _pid(pool) != pid


async def test_a_new_decoder_is_got_ready_when_the_last_one_is_lost(
    new_pool: NewPool, upload: Upload
) -> None:
    pool, decoder = await _stopped(new_pool, decode_seconds=0.1)
    with pytest.raises(CorruptImage):
        await pool.inspect(upload(photos.jpeg()))
    await asyncio.gather(*pool._children.tasks)
    assert _pid(pool) != decoder.pid


@pytest.mark.parametrize(
    ("program", "seconds", "reason"),
    [
        ((sys.executable, "-P", "-c", "raise ImportError('no such library')"), 15, "no such library"),
        ((sys.executable, "-P", "-c", "import time; time.sleep(60)"), 0.3, "Timeout"),
        (("/nowhere/python",), 15, "/nowhere/python"),
    ],
)
async def test_a_decoder_that_cannot_be_started_is_explained_to_the_operator_alone(
    new_pool: NewPool,
    upload: Upload,
    monkeypatch: pytest.MonkeyPatch,
    program: tuple[str],
    seconds: float,
    reason: str,
) -> None:
    monkeypatch.setattr(process, "COMMAND", program)
    monkeypatch.setattr(process, "_START_SECONDS", seconds)
    pool = await new_pool(started=False)
    with pytest.raises(ChildNotStarted, match=reason):
        await pool.start()
    with capture_logs() as complaints, pytest.raises(UploadCapacityExceeded) as refused:
        await pool.inspect(upload(photos.jpeg()))
    assert reason not in refused.value.message
    assert reason in complaints[0]["error"]
    monkeypatch.undo()
    await asyncio.gather(*pool._children.tasks)
    assert (await pool.inspect(upload(photos.jpeg()))).width == 160


async def test_nothing_is_left_open_whatever_happens(upload: Upload) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    pool = pool_of(size=2, decode_seconds=0.3)
    await pool.start()
    uploads = [upload(data) for data in (photos.jpeg(), photos.png(), b"no image", photos.jpeg()[:900])]
    for _ in range(10):
        await asyncio.gather(*(pool.inspect(each) for each in uploads), return_exceptions=True)
    for decoder in pool._children.idle:
        os.kill(decoder.pid, signal.SIGSTOP)
    await asyncio.gather(*(pool.inspect(each) for each in uploads), return_exceptions=True)
    await pool.aclose()
    assert len(list(Path("/proc/self/fd").iterdir())) == before + len(uploads)


async def test_closing_turns_away_what_is_under_examination_and_leaves_no_process(
    new_pool: NewPool, upload: Upload
) -> None:
    pool, decoder = await _stopped(new_pool)
    busy = await _begun(pool, decoder, upload(photos.jpeg()))
    await pool.aclose()
    with pytest.raises(UploadCapacityExceeded):
        await busy
    with pytest.raises(UploadCapacityExceeded):
        await pool.inspect(upload(photos.jpeg()))
    assert _has_ended(decoder.pid)


@pytest.mark.parametrize("turns", range(4))
async def test_closing_as_a_client_goes_away_leaves_no_process(
    new_pool: NewPool, upload: Upload, turns: int
) -> None:
    pool, decoder = await _stopped(new_pool)
    busy = await _begun(pool, decoder, upload(photos.jpeg()))
    busy.cancel()
    for _ in range(turns):
        await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await pool.aclose()
    assert _has_ended(decoder.pid)
    await asyncio.wait((busy,))


async def test_closing_while_a_decoder_is_being_started_leaves_no_process(
    new_pool: NewPool, upload: Upload
) -> None:
    before = _children()
    pool = await new_pool(started=False)
    waiting = asyncio.create_task(pool.inspect(upload(photos.jpeg())))
    while _children() <= before:
        await asyncio.sleep(0)
    await pool.aclose()
    with pytest.raises(UploadCapacityExceeded):
        await waiting
    assert _children() <= before


async def test_closing_waits_only_so_long_for_a_decoder_that_hangs(
    new_pool: NewPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_STOP_SECONDS", 0.1)
    pool, decoder = await _stopped(new_pool)
    await pool.aclose()
    assert _has_ended(decoder.pid)


async def test_a_server_out_of_descriptors_says_that_it_cannot_rather_than_stumble(
    pool: DecoderPool, upload: Upload, terms: Terms
) -> None:
    received = upload(photos.jpeg())
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, limits[1]))
    try:
        with pytest.raises(StorageUnavailable):
            await pool.inspect(received)
        with pytest.raises(ChildNotStarted):
            await Child.start(Program("decoder", "chitram.images.adapters.decoder.child", terms))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert (await pool.inspect(received)).width == 160


async def test_memory_of_the_server_does_not_grow_with_what_is_examined(
    pool: DecoderPool, upload: Upload
) -> None:
    uploads = [
        upload(photos.blank_png(7000, 16, 6)),
        upload(photos.camera_jpeg()),
        upload(photos.bomb(b"iCCP")),
        upload(photos.blank_png(13_000, 8, 2)),
    ]
    before = psutil.Process().memory_info().rss
    for each in uploads:
        await asyncio.gather(pool.inspect(each), return_exceptions=True)
    assert psutil.Process().memory_info().rss - before < 10 << 20


def test_works_under_uvloop(upload: Upload) -> None:
    received = upload(photos.with_metadata(photos.jpeg()))

    async def inspect() -> int:
        pool = pool_of(decode_seconds=0.5)
        await pool.start()
        found = await pool.inspect(received)
        os.kill(_pid(pool), signal.SIGSTOP)
        with pytest.raises(CorruptImage):
            await pool.inspect(received)
        assert await pool.inspect(received) == found
        await pool.aclose()
        return found.width

    assert uvloop.run(inspect()) == 160


def test_a_decoder_dies_with_its_server() -> None:
    """Stopped, it could not notice anything by itself."""
    code = (
        "import asyncio, os, signal, sys; from tests.decoder.conftest import pool_of\n"
        "async def main():\n"
        "    pool = pool_of(); await pool.start(); pid = pool._children.idle[0].pid\n"
        "    os.kill(pid, signal.SIGSTOP); print(pid, flush=True); await asyncio.sleep(60)\n"
        "asyncio.run(main())"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=_ROOT) as server:
        assert server.stdout is not None
        decoder = os.pidfd_open(int(server.stdout.readline()))
        server.kill()
    ended, _, _ = select.select([decoder], [], [], 5)
    os.close(decoder)
    assert ended

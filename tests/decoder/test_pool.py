"""Decoders that die, hang, lie or are all busy cost one image at most, and nothing is left of them."""

from __future__ import annotations

import asyncio
import os
import resource
import select
import signal
import subprocess
import sys
import time
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


async def test_an_answer_that_came_while_the_event_loop_was_held_up_counts(
    new_pool: NewPool, upload: Upload
) -> None:
    pool, decoder = await _stopped(new_pool, decode_seconds=0.5)
    task = await _begun(pool, decoder, upload(photos.jpeg()))
    os.kill(decoder.pid, signal.SIGCONT)
    select.select([decoder._connection], [], [])
    time.sleep(0.6)  # noqa: ASYNC251 - what it shows is a loop that is blocked
    assert (await task).width == 160
    assert _pid(pool) == decoder.pid


async def test_a_client_that_goes_away_gives_its_place_back_once(new_pool: NewPool, upload: Upload) -> None:
    pool, decoder = await _stopped(new_pool)
    task = await _begun(pool, decoder, upload(photos.jpeg()))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    # As long as its image is examined.
    assert pool._children.slots.locked()
    assert not pool._children.tasks
    os.kill(decoder.pid, signal.SIGCONT)
    await asyncio.gather(*pool._children._leaving)
    assert pool._children.slots._value == 1
    assert pool._children.idle == [decoder]


async def test_closing_waits_for_a_decoder_that_is_being_replaced_and_starts_no_other(
    new_pool: NewPool, upload: Upload
) -> None:
    before = _children()
    pool = await new_pool()
    (decoder,) = pool._children.idle
    # Whoever speaks unasked is not asked any more.
    decoder._said += b"x"
    task = asyncio.create_task(pool.inspect(upload(photos.jpeg())))
    while pool._children.idle:
        await asyncio.sleep(0)
    await pool.aclose()
    assert _has_ended(decoder.pid)
    with pytest.raises(UploadCapacityExceeded):
        await task
    assert _children() <= before


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


@pytest.mark.parametrize("turns", range(6))
async def test_a_client_that_goes_away_in_the_moment_of_its_answer_costs_no_decoder(
    new_pool: NewPool, upload: Upload, turns: int
) -> None:
    """What is read is for whoever sees the decoder out."""
    pool, decoder = await _stopped(new_pool, decode_seconds=1.0)
    task = await _begun(pool, decoder, upload(photos.jpeg()))
    os.kill(decoder.pid, signal.SIGCONT)
    # The loop is held up until the answer is there.
    select.select([decoder._connection], [], [])
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert (await pool.inspect(upload(photos.png()))).format is ImageFormat.PNG
    assert _pid(pool) == decoder.pid


async def test_who_waits_gets_the_first_decoder_that_is_free_and_not_one_that_hangs(
    new_pool: NewPool, upload: Upload
) -> None:
    pool, decoder = await _stopped(new_pool, size=2)
    hanging = await _begun(pool, decoder, upload(photos.jpeg()))
    others = await asyncio.gather(*(pool.inspect(upload(photos.jpeg(16 * n, 8))) for n in range(1, 9)))
    assert [each.width for each in others] == [16 * n for n in range(1, 9)]
    assert not hanging.done()
    os.kill(decoder.pid, signal.SIGCONT)
    assert (await hanging).width == 160


async def test_images_that_decoders_do_not_survive_cost_others_no_answer(
    new_pool: NewPool, upload: Upload, monkeypatch: pytest.MonkeyPatch
) -> None:
    dying = "import os, chitram.images.adapters.decoder.child as child\n"
    dying += "sees = child.image_format\n"
    dying += "child.image_format = lambda data, *of: data[:3] == b'die' and os._exit(1) or sees(data, *of)\n"
    dying += "child.main()"
    monkeypatch.setattr(process, "COMMAND", (sys.executable, "-P", "-c", dying))
    pool = await new_pool(size=2)
    contents = [b"die" if number % 3 == 0 else photos.jpeg(16 * number, 8) for number in range(18)]
    answers = await asyncio.gather(*(pool.inspect(upload(each)) for each in contents), return_exceptions=True)
    assert [each.width if isinstance(each, Inspection) else type(each) for each in answers] == [
        CorruptImage if number % 3 == 0 else 16 * number for number in range(18)
    ]


async def test_closing_turns_away_all_that_wait_and_starts_nothing_for_them(
    new_pool: NewPool, upload: Upload
) -> None:
    before = _children()
    pool, decoder = await _stopped(new_pool)
    tasks = [await _begun(pool, decoder, upload(photos.jpeg()))]
    tasks += [asyncio.create_task(pool.inspect(upload(photos.jpeg()))) for _ in range(3)]
    await asyncio.sleep(0)
    tasks[2].cancel()
    await pool.aclose()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(each) for each in answers] == [
        *(UploadCapacityExceeded,) * 2,
        asyncio.CancelledError,
        UploadCapacityExceeded,
    ]
    assert _children() == before


async def test_who_comes_after_the_end_is_turned_away_without_waiting(
    new_pool: NewPool, upload: Upload
) -> None:
    pool = await new_pool(wait_seconds=60.0)
    await pool._children.slots.acquire()
    await pool.aclose()
    async with asyncio.timeout(5):
        with pytest.raises(UploadCapacityExceeded, match="being stopped"):
            await pool.inspect(upload(photos.jpeg()))


async def test_closing_before_the_first_step_of_a_start_leaves_its_place(new_pool: NewPool) -> None:
    pool = await new_pool(size=3)
    await pool.aclose()
    async with asyncio.timeout(5):
        for _ in range(3):
            await pool._children.slots.acquire()


async def test_a_decoder_that_started_for_nobody_ends(new_pool: NewPool, upload: Upload) -> None:
    """Who goes away in the moment in which it has started does not lose it."""
    pool, decoder = await _stopped(new_pool)
    os.kill(decoder.pid, signal.SIGKILL)
    before = _children()
    started: list[Child] = []

    async def start(program: Program) -> Child:
        started.append(await begin(program))
        # Comes after the end of this, and before that is heard of.
        asyncio.get_running_loop().call_soon(task.cancel)
        return started[0]

    begin, Child.start = Child.start, start  # type: ignore[method-assign]
    try:
        task = asyncio.create_task(pool.inspect(upload(photos.jpeg())))
        with pytest.raises(asyncio.CancelledError):
            await task
    finally:
        Child.start = begin  # type: ignore[method-assign]
    await pool.aclose()
    assert _has_ended(started[0].pid)
    assert _children() <= before


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

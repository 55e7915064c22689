"""Renderers that hang, die, run out of memory or lie fail their picture alone, and nothing is left."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
from structlog.testing import capture_logs

from chitram.images.adapters.children import process
from chitram.images.adapters.children.frames import frame
from chitram.images.adapters.children.process import Child
from chitram.images.adapters.decoder import png
from chitram.images.adapters.decoder.source import Shape, Source
from chitram.images.adapters.renderer import renderer as module
from chitram.images.adapters.renderer.protocol import Encoded, Made, Refused, Work
from chitram.images.adapters.renderer.renderer import PATIENCE, ChildRenderer
from chitram.images.domain.errors import RendererUnavailable
from chitram.images.domain.rendition import RenditionFormat, RenditionKind
from chitram.images.ports import RenderingFailed
from chitram.kernel.errors import StorageUnavailable
from tests.renditions.conftest import New, NewRenderer, renderer_of
from tests.support import photos

StandIn = Callable[[str], Awaitable[int]]


def _idle(renderer: ChildRenderer, work: Work = Work.THUMBNAILS) -> Child:
    (child,) = renderer._pools[work].idle
    return child


async def _stand_in(renderer: ChildRenderer, monkeypatch: pytest.MonkeyPatch, does: str | Path) -> int:
    """Give a renderer a first child that does something else; return its process id."""
    program = Path(__file__).with_name("stand_in.py")
    monkeypatch.setattr(process, "COMMAND", (sys.executable, "-P", program, does))
    await renderer._pools[Work.THUMBNAILS].start()
    monkeypatch.undo()
    return _idle(renderer).pid


async def _works(renderer: ChildRenderer, stored: New) -> bool:
    made = await renderer.thumbnails(stored(photos.jpeg(800, 600)))
    return [each.width for each in made] == [150, 300, 600]


@pytest.mark.parametrize(
    ("does", "seconds", "reason"),
    [
        ("hang", 0.3, "it takes too long"),
        ("spin", 60.0, "it takes too long"),
        ("die", 60.0, "the renderer does not survive it"),
    ],
)
async def test_a_renderer_that_fails_is_replaced(
    new_renderer: NewRenderer,
    stored: New,
    monkeypatch: pytest.MonkeyPatch,
    does: str,
    seconds: float,
    reason: str,
) -> None:
    renderer = new_renderer(seconds=seconds)
    pid = await _stand_in(renderer, monkeypatch, does)
    async with asyncio.timeout(10):
        with pytest.raises(RenderingFailed, match=reason):
            await renderer.thumbnails(stored(photos.jpeg()))
    assert not psutil.pid_exists(pid)
    renderer._seconds = 60.0
    assert await _works(renderer, stored)


async def test_a_renderer_that_hangs_gets_no_longer_than_it_is_given(
    new_renderer: NewRenderer, stored: New, monkeypatch: pytest.MonkeyPatch
) -> None:
    renderer = new_renderer(seconds=0.2)
    await _stand_in(renderer, monkeypatch, "hang")
    looks: list[int] = []

    def looked_at(pid: int) -> float:
        looks.append(pid)
        return 0.0

    monkeypatch.setattr(module, "starved_seconds", looked_at)
    with pytest.raises(RenderingFailed, match="too long"):
        await renderer.thumbnails(stored(photos.jpeg()))
    # In the beginning, and when its time is over.
    assert len(looks) == 2


@pytest.mark.parametrize(
    ("waits", "error"), [(0.7, RenderingFailed), (1.0, RendererUnavailable)], ids=["most of it", "all of it"]
)
async def test_waiting_for_a_processor_is_no_hanging_but_ends_too(
    new_renderer: NewRenderer,
    stored: New,
    monkeypatch: pytest.MonkeyPatch,
    waits: float,
    error: type[Exception],
) -> None:
    """The picture is only at fault when its own share of the time has been as long as it may be."""
    renderer = new_renderer(seconds=0.2)
    await _stand_in(renderer, monkeypatch, "hang")
    monkeypatch.setattr(module, "starved_seconds", lambda _: waits * time.monotonic())
    began = time.monotonic()
    with pytest.raises(error):
        await renderer.thumbnails(stored(photos.jpeg()))
    assert time.monotonic() - began >= 0.2 * min(PATIENCE, 1 / (1 - waits) if waits < 1 else PATIENCE)
    renderer._seconds = 60.0
    monkeypatch.undo()
    assert await _works(renderer, stored)


async def test_a_job_that_is_stopped_while_its_original_is_looked_at_is_stopped(
    new_renderer: NewRenderer, stored: New, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that looks keeps what it looks at, and its end is nobody's concern."""
    looking, may_end, look_at = threading.Event(), threading.Event(), png.shape

    def look(data: Source) -> Shape:
        with memoryview(data):
            looking.set()
            may_end.wait(10)
        return look_at(data)

    monkeypatch.setattr("chitram.images.adapters.renderer.renderer.png.shape", look)
    task = asyncio.create_task(new_renderer().thumbnails(stored(photos.png())))
    await asyncio.to_thread(looking.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    may_end.set()


async def test_an_original_with_a_broken_header_fails_its_picture(
    new_renderer: NewRenderer, stored: New
) -> None:
    empty = photos.png_file(photos.header(0, 100), photos.chunk(b"IEND"))
    with pytest.raises(RenderingFailed, match="not the picture that was stored"):
        await new_renderer().thumbnails(stored(empty))


async def test_the_kernel_tells_for_how_long_a_process_has_waited_for_a_processor() -> None:
    """Two that share a processor wait for each other."""
    one = min(os.sched_getaffinity(0))
    spin = f"import os; os.sched_setaffinity(0, {{{one}}})\nwhile True: pass"
    spinning = [subprocess.Popen([sys.executable, "-c", spin]) for _ in range(2)]  # noqa: ASYNC220 - at once
    try:
        async with asyncio.timeout(30):
            while process.starved_seconds(spinning[0].pid) < 0.1:
                await asyncio.sleep(0.01)
    finally:
        for each in spinning:
            each.kill()
            each.wait()
    assert process.starved_seconds(spinning[0].pid) == 0


async def test_a_picture_that_takes_too_long_fails(new_renderer: NewRenderer, stored: New) -> None:
    renderer = new_renderer(seconds=0.02)
    with pytest.raises(RenderingFailed, match="too long"):
        await renderer.thumbnails(stored(photos.camera_jpeg()))
    renderer._seconds = 60.0
    assert await _works(renderer, stored)


async def test_a_picture_that_needs_more_memory_than_there_is_fails_and_its_memory_returns(
    new_renderer: NewRenderer, stored: New
) -> None:
    renderer = new_renderer(memory_bytes=1 << 29)
    assert await _works(renderer, stored)
    child = psutil.Process(_idle(renderer).pid)
    before = child.memory_info().rss
    with pytest.raises(RenderingFailed, match="too much memory"):
        await renderer.thumbnails(stored(photos.blank_png(12_000, 8, 2)))
    assert child.memory_info().rss - before < 50 << 20
    assert await _works(renderer, stored)
    assert _idle(renderer).pid == child.pid


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x89PNG\r\n\x1a\n",
        b"no picture",
        photos.jpeg()[:300],
        photos.HOSTILE["jpeg_without_a_frame"][0](),
        photos.HOSTILE["png_whose_stream_is_none"][0](),
        photos.HOSTILE["png_with_its_stream_cut"][0](),
    ],
    ids=["empty", "signature", "text", "jpeg cut", "jpeg without a frame", "png of noise", "png cut"],
)
@pytest.mark.parametrize("work", list(Work))
async def test_a_file_that_went_bad_after_its_check_fails(
    renderer: ChildRenderer, stored: New, work: Work, data: bytes
) -> None:
    with pytest.raises(RenderingFailed):
        await getattr(renderer, work.value)(stored(data))
    assert await _works(renderer, stored)


async def test_a_closed_spool_is_a_fault_of_the_store(renderer: ChildRenderer, stored: New) -> None:
    original = stored(photos.jpeg())
    os.close(original.fileno())
    try:
        with pytest.raises(StorageUnavailable):
            await renderer.thumbnails(original)
    finally:
        os.open(os.devnull, os.O_RDONLY)


def _rendition(kind: RenditionKind, image: bytes, **changes: Any) -> Encoded:
    side = {RenditionKind.SMALL: (150, 112)}.get(kind, (160, 120))
    return msgspec.structs.replace(Encoded(kind, RenditionFormat.JPEG, *side, image), **changes)


_SMALL, _WHOLE = photos.jpeg(150, 112), photos.jpeg(160, 120)


def _made(small: Encoded | None = None, **changes: Any) -> bytes:
    small = small or _rendition(RenditionKind.SMALL, _SMALL, **changes)
    rest = [_rendition(kind, _WHOLE) for kind in (RenditionKind.MEDIUM, RenditionKind.LARGE)]
    return frame(Made([small, *rest]))


_LIES = {
    "html": _made(content=photos.HTML),
    "html behind the picture": _made(content=_SMALL + photos.HTML),
    "html beside the picture": _made(content=photos.with_segments(_SMALL, photos.segment(0xFE, photos.HTML))),
    "half a picture": _made(content=_SMALL[:2000]),
    "nothing": _made(content=b""),
    "a picture of another size": _made(content=_WHOLE),
    "another size than is right": _made(content=_WHOLE, width=160, height=120),
    "a picture of another format": _made(content=photos.png()),
    "another format than is right": _made(format=RenditionFormat.WEBP),
    "a format that does not exist": _made(format="svg"),
    "more bytes than there may be": _made(
        content=photos.with_segments(_SMALL, photos.segment(0xE0, bytes(65_000)) * 40)
    ),
    "two of three": frame(Made([_rendition(RenditionKind.SMALL, _SMALL)])),
    "three of another kind": frame(Made([_rendition(RenditionKind.SMALL, _SMALL)] * 3)),
    "no message at all": b"\0\0\0\x05hello",
    "a longer message than there may be": (1 << 31).to_bytes(4, "big") + b"x",
    "a reason of its own": frame(Refused(reason="x", cause="")),  # type: ignore[arg-type] # the lie
}


@pytest.mark.parametrize("lie", _LIES.values(), ids=_LIES.keys())
async def test_a_lie_is_no_answer_and_ends_the_renderer(
    new_renderer: NewRenderer, stored: New, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, lie: bytes
) -> None:
    renderer = new_renderer()
    (tmp_path / "said").write_bytes(lie)
    pid = await _stand_in(renderer, monkeypatch, tmp_path / "said")
    with capture_logs() as complaints, pytest.raises(RenderingFailed, match="cannot be true"):
        await renderer.thumbnails(stored(photos.jpeg()))
    assert [each["event"] for each in complaints] == ["renderer_answer_refused"]
    assert not psutil.pid_exists(pid)


async def test_what_a_stand_in_says_is_heard_when_it_is_right(
    new_renderer: NewRenderer, stored: New, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    renderer = new_renderer()
    (tmp_path / "said").write_bytes(_made())
    await _stand_in(renderer, monkeypatch, tmp_path / "said")
    made = await renderer.thumbnails(stored(photos.jpeg()))
    assert [each.content for each in made] == [_SMALL, _WHOLE, _WHOLE]


async def _stopped(renderer: ChildRenderer) -> Child:
    """The one child of a renderer, which does nothing until it gets SIGCONT."""
    await renderer._pools[Work.THUMBNAILS].start()
    child = _idle(renderer)
    os.kill(child.pid, signal.SIGSTOP)
    return child


async def test_who_goes_away_ends_the_work_and_its_child(new_renderer: NewRenderer, stored: New) -> None:
    renderer = new_renderer()
    child = await _stopped(renderer)
    task = asyncio.create_task(renderer.thumbnails(stored(photos.jpeg())))
    while not child.served:
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await _works(renderer, stored)
    assert not psutil.pid_exists(child.pid)


async def test_closing_turns_away_what_is_being_rendered_and_leaves_no_process(
    new_renderer: NewRenderer, stored: New
) -> None:
    renderer = new_renderer()
    child = await _stopped(renderer)
    busy = asyncio.create_task(renderer.thumbnails(stored(photos.jpeg())))
    waiting = asyncio.create_task(renderer.thumbnails(stored(photos.jpeg())))
    while not child.served:
        await asyncio.sleep(0.001)
    await renderer.aclose()
    for task in (busy, waiting):
        with pytest.raises(RendererUnavailable, match="stopped"):
            await task
    assert not psutil.pid_exists(child.pid)


async def test_a_renderer_that_cannot_be_started_is_no_fault_of_the_picture(
    new_renderer: NewRenderer, stored: New, monkeypatch: pytest.MonkeyPatch
) -> None:
    renderer = new_renderer()
    monkeypatch.setattr(process, "COMMAND", ("/nowhere/python",))
    with capture_logs(), pytest.raises(RendererUnavailable, match="could be started"):
        await renderer.thumbnails(stored(photos.jpeg()))
    monkeypatch.undo()
    assert await _works(renderer, stored)


async def test_a_renderer_is_replaced_after_its_share_of_pictures(
    new_renderer: NewRenderer, stored: New, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "IMAGES_PER_CHILD", 2)
    renderer = new_renderer()
    assert await _works(renderer, stored)
    pid = _idle(renderer).pid
    assert await _works(renderer, stored)
    assert await _works(renderer, stored)
    assert _idle(renderer).pid != pid


async def test_nothing_starts_before_there_is_work_and_nothing_is_left_open(stored: New) -> None:
    originals = [stored(data) for data in (photos.jpeg(), photos.png(), b"no image", photos.jpeg()[:900])]
    # What tests before this one have left is not to be closed in the middle of it.
    gc.collect()
    descriptors, children = _open(), psutil.Process().children()
    renderer = renderer_of(size=2)
    assert psutil.Process().children() == children
    for _ in range(3):
        await asyncio.gather(*map(renderer.thumbnails, originals), return_exceptions=True)
        await asyncio.gather(*map(renderer.optimised, originals), return_exceptions=True)
    renderer._seconds = 0.3
    for pool in renderer._pools.values():
        for child in pool.idle:
            os.kill(child.pid, signal.SIGSTOP)
    await asyncio.gather(*map(renderer.thumbnails, originals), return_exceptions=True)
    await renderer.aclose()
    assert psutil.Process().children() == children
    assert _open() <= descriptors


def _open() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_optimising_goes_behind_thumbnails_and_both_behind_requests(
    new_renderer: NewRenderer, stored: New
) -> None:
    renderer = new_renderer()
    await renderer.thumbnails(stored(photos.jpeg()))
    await renderer.optimised(stored(photos.jpeg()))
    niceness = [psutil.Process(_idle(renderer, work).pid).nice() for work in Work]
    assert niceness == [min(19, os.nice(0) + more) for more in (4, 9)]


async def test_memory_that_a_large_picture_took_is_given_back(new_renderer: NewRenderer, stored: New) -> None:
    renderer = new_renderer()
    await renderer.thumbnails(stored(photos.jpeg(1600, 1200)))
    child = psutil.Process(_idle(renderer).pid)
    before = child.memory_info().rss
    # What is allocated after that much was freed once comes from where it is not given back by itself.
    for _ in range(2):
        await renderer.thumbnails(stored(photos.blank_png(7000, 8, 2)))
    assert child.memory_info().rss - before < 32 << 20
    assert _idle(renderer).pid == child.pid


async def test_memory_of_the_worker_does_not_grow_with_what_is_rendered(
    renderer: ChildRenderer, stored: New
) -> None:
    originals = [stored(photos.blank_png(7000, 8, 2)), stored(photos.camera_jpeg())]
    await renderer.thumbnails(originals[1])
    before = psutil.Process().memory_info().rss
    for each in originals * 2:
        await renderer.thumbnails(each)
    assert psutil.Process().memory_info().rss - before < 10 << 20

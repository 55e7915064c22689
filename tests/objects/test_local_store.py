"""What only the store in a directory does: durability, crashes, full and lost disks."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from chitram.kernel.errors import StorageUnavailable
from chitram.platform.objects import directory
from chitram.platform.objects.base import ObjectNotFound
from chitram.platform.objects.blocking import Threads
from chitram.platform.objects.local import LocalStore
from chitram.platform.settings import SettingsError

KEY = "blobs/0f/a-picture"
HOUR = timedelta(hours=1)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data" / "objects"


@pytest.fixture
async def store(root: Path) -> AsyncIterator[LocalStore]:
    async with started(root) as store:
        yield store


@contextlib.asynccontextmanager
async def started(root: Path, seconds: float = 4.0) -> AsyncIterator[LocalStore]:
    store = LocalStore("local", root, seconds=seconds)
    await store.start()
    yield store
    await store.aclose()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    if not succeeds("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place):
        pytest.skip("mounting a file system takes root and its rights")
    yield place
    succeeds("umount", "--lazy", place)


def succeeds(command: str, *arguments: str | Path) -> bool:
    program = shutil.which(command)
    return (
        bool(program)
        and not subprocess.run([str(program), *arguments], capture_output=True, check=False).returncode
    )


def files_of(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def open_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def forget_where_files_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every file opened as one that the kernel has to look for on the disk."""
    monkeypatch.setattr(directory, "open_cached", lambda _: -1)


def threads_of(name: str) -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith(f"{name}-read")}


def move(source: Path, target: Path) -> None:
    assert not target.exists()
    source.rename(target)


def empty_folder(path: Path) -> Path:
    path.mkdir()
    return path


def entries_of(folder: Path) -> list[Path]:
    return list(folder.iterdir())


def crashed_while_putting(root: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", CRASHING, root], stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"half\n"
        process.send_signal(signal.SIGKILL)


def modes_below(root: Path) -> dict[str, int]:
    return {str(path.relative_to(root)): path.stat().st_mode & 0o777 for path in root.rglob("*")}


async def every_call_is_refused(store: LocalStore) -> None:
    with pytest.raises(StorageUnavailable):
        await store.put(KEY, [b"x"], 1)
    with pytest.raises(StorageUnavailable):
        await store.open(KEY)
    with pytest.raises(StorageUnavailable):
        await store.stat(KEY)
    with pytest.raises(StorageUnavailable):
        await store.delete(KEY)
    with pytest.raises(StorageUnavailable):
        [_ async for _ in store.list()]
    with pytest.raises(StorageUnavailable):
        await store.remove_unfinished(datetime.now(UTC))
    with pytest.raises(StorageUnavailable):
        await store.check()


async def test_an_open_object_stays_readable_after_its_deletion(store: LocalStore) -> None:
    content = os.urandom(3_000_000)
    await store.put(KEY, [content], len(content))
    found = await store.open(KEY)
    await store.delete(KEY)
    assert await found.read(0, 1000) == content[:1000]
    assert await found.read(0, len(content)) == content
    await found.aclose()


async def test_a_read_under_way_when_the_object_is_closed_ends_well(store: LocalStore) -> None:
    content = os.urandom(3_000_000)
    await store.put(KEY, [content], len(content))
    found = await store.open(KEY)
    reading = asyncio.ensure_future(found.read(0, len(content)))
    await asyncio.sleep(0)
    await found.aclose()
    assert await reading == content
    with pytest.raises(ValueError):
        await found.read(0, 1)


async def test_no_descriptor_is_left_open(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Of a name of its own: other stores of this process keep their threads.
    store = LocalStore("counted", root)
    await store.start()
    await store.put(KEY, [b"x"], 1)
    before = open_descriptors()
    for _ in range(3):
        found = await store.open(KEY)
        await found.read(0, 1)
        await found.aclose()
        with pytest.raises(ValueError):
            await store.put(KEY, [b"x"], 2)
        async for _ in store.list():
            break
        await store.delete("not/there")
    forget_where_files_lie(monkeypatch)
    opening = asyncio.ensure_future(store.open(KEY))
    await asyncio.sleep(0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    await store.aclose()
    for thread in threading.enumerate():  # one may still be at the call that was given up
        if thread.name.startswith("counted-read"):
            await asyncio.to_thread(thread.join)
    assert open_descriptors() <= before


async def test_reads_a_large_file_that_is_not_in_the_page_cache(store: LocalStore, root: Path) -> None:
    content = os.urandom(200_000)
    await store.put(KEY, [content], len(content))
    descriptor = os.open(root / KEY, os.O_RDONLY)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)
    found = await store.open(KEY)
    assert await found.read(0, len(content)) == content
    await found.aclose()


async def test_a_file_is_opened_and_read_without_a_thread_if_no_disk_has_to_be_asked(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LocalStore("quick", root)
    await store.start()
    await store.put(KEY, [b"picture"], 7)
    started_with = threads_of("quick")
    monkeypatch.setattr(Threads, "run", no_thread)
    found = await store.open(KEY)
    assert (found.size, await found.read(0, 7)) == (7, b"picture")
    described = await store.stat(KEY)
    monkeypatch.undo()
    assert threads_of("quick") == started_with
    forget_where_files_lie(monkeypatch)
    assert await store.stat(KEY) == described
    slowly = await store.open(KEY)
    assert (slowly.size, await slowly.read(0, 7)) == (7, b"picture")
    await store.aclose()


async def no_thread(*_: object) -> None:
    raise AssertionError("a thread was asked")


@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
async def test_what_is_no_regular_file_is_never_opened_whoever_opens_it(
    store: LocalStore, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, known: bool
) -> None:
    if not known:
        forget_where_files_lie(monkeypatch)
    (tmp_path / "outside").write_bytes(b"x")
    (root / "link").symlink_to(tmp_path / "outside")
    (root / "folder").mkdir()
    os.mkfifo(root / "pipe")
    for key in ("folder", "pipe"):
        with pytest.raises(ObjectNotFound):
            await store.open(key)
        assert await store.stat(key) is None
    assert await store.stat("link") is None
    with pytest.raises(StorageUnavailable):
        await store.open("link")


CRASHING = """
import asyncio, sys, time
from pathlib import Path
from chitram.platform.objects.local import LocalStore

def chunks():
    yield b"half of it"
    print("half", flush=True)
    time.sleep(60)

async def main():
    store = LocalStore("local", Path(sys.argv[1]))
    await store.start()
    await store.put("blobs/0f/a-picture", chunks(), 20)

asyncio.run(main())
"""


async def test_a_put_cut_off_by_a_kill_leaves_only_what_is_swept(root: Path) -> None:
    crashed_while_putting(root)
    async with started(root) as store:
        assert await store.stat(KEY) is None
        assert [_ async for _ in store.list()] == []
        assert len(files_of(root)) == 1
        assert await store.remove_unfinished(datetime.now(UTC) - HOUR) == 0
        assert await store.remove_unfinished(datetime.now(UTC) + HOUR) == 1
        assert files_of(root) == []


TRACED = """
import asyncio, sys
from pathlib import Path
from chitram.platform.objects.local import LocalStore

async def main():
    store = LocalStore("local", Path(sys.argv[1]))
    await store.start()
    await store.put("blobs/0f/a-picture", [b"x"], 1)

asyncio.run(main())
"""


def test_syncs_the_file_before_its_name_and_every_new_folder_after(root: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    calls = "trace=fsync,rename,renameat,renameat2"
    if not succeeds("strace", "-f", "-y", "-o", trace, "-e", calls, sys.executable, "-c", TRACED, root):
        pytest.skip("strace is not installed or may not trace here")
    lines = trace.read_text().splitlines()
    named = next(number for number, line in enumerate(lines) if "rename" in line)
    before, after = " ".join(lines[:named]), " ".join(lines[named:])
    assert f"<{root}/.unfinished/" in before.split("fsync")[-1]
    order = [after.index(f"<{folder}>)") for folder in (root / "blobs/0f", root / "blobs", root)]
    assert order == sorted(order)


async def test_a_full_disk_is_told_and_nothing_stays_of_the_attempt(small_disk: Path) -> None:
    async with started(small_disk / "objects") as store:
        await store.put("kept", [b"kept"], 4)
        with pytest.raises(StorageUnavailable, match="full"):
            await store.put(KEY, [bytes(1024)] * 2048, 2 * 1024 * 1024)
        assert files_of(small_disk) == ["objects/kept"]
        await store.check()
        (small_disk / "filler").write_bytes(bytes(1000 * 1024))
        with contextlib.suppress(OSError), (small_disk / "filler").open("ab", buffering=0) as filler:
            while filler.write(bytes(4096)):
                pass
        with pytest.raises(StorageUnavailable, match="full"):
            await store.check()
        found = await store.open("kept")
        assert await found.read(0, 4) == b"kept"
        await found.aclose()
        await store.delete("kept")


async def test_a_read_only_disk_is_told_and_still_read(small_disk: Path) -> None:
    async with started(small_disk / "objects") as store:
        await store.put("kept", [b"kept"], 4)
        assert succeeds("mount", "-o", "remount,ro", small_disk)
        for refused in (store.check(), store.put(KEY, [b"x"], 1), store.delete("kept")):
            with pytest.raises(StorageUnavailable, match="read-only"):
                await refused
        found = await store.open("kept")
        assert await found.read(0, 4) == b"kept"
        await found.aclose()


async def test_a_lost_mount_is_unavailable_and_not_written_beneath(small_disk: Path) -> None:
    async with started(small_disk) as store:
        await store.put(KEY, [b"x"], 1)
        assert succeeds("umount", "--lazy", small_disk)
        await every_call_is_refused(store)
        assert entries_of(small_disk) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root is refused nothing")
async def test_a_directory_that_may_not_be_written_is_told(store: LocalStore, root: Path) -> None:
    for folder in (root, root / ".unfinished"):
        folder.chmod(0o500)
    with pytest.raises(StorageUnavailable, match="refuses"):
        await store.put(KEY, [b"x"], 1)
    with pytest.raises(StorageUnavailable, match="refuses"):
        await store.check()
    for folder in (root, root / ".unfinished"):
        folder.chmod(0o700)


async def test_a_vanished_directory_is_unavailable_and_comes_back_only_by_itself(
    store: LocalStore, root: Path
) -> None:
    await store.put(KEY, [b"kept"], 4)
    move(root, root.with_name("elsewhere"))
    await every_call_is_refused(store)
    move(root.with_name("elsewhere"), root)
    assert await store.stat(KEY)


async def test_an_empty_directory_in_the_place_of_the_store_is_not_taken_for_it(
    store: LocalStore, root: Path
) -> None:
    await store.put(KEY, [b"kept"], 4)
    move(root, root.with_name("elsewhere"))
    empty = empty_folder(root)
    await every_call_is_refused(store)
    assert entries_of(empty) == []


async def test_messages_name_no_path_and_no_key(store: LocalStore, root: Path) -> None:
    move(root, root.with_name("elsewhere"))
    with pytest.raises(StorageUnavailable) as refusal:
        await store.put(KEY, [b"x"], 1)
    assert refusal.value.message == "The image store is not there."


async def test_a_disk_that_hangs_is_given_up_in_time_and_nothing_becomes_visible(root: Path) -> None:
    resume = threading.Event()

    def chunks() -> Iterator[bytes]:
        yield b"ha"
        resume.wait(30)
        yield b"lf"

    async with started(root, seconds=0.2) as store:
        stuck = [store.put(f"stuck-{number}", chunks(), 4) for number in range(20)]
        started_at = asyncio.get_running_loop().time()
        refusals = await asyncio.gather(*stuck, return_exceptions=True)
        assert asyncio.get_running_loop().time() - started_at < 2
        assert {type(refusal) for refusal in refusals} == {StorageUnavailable}
        await store.check()  # reading has threads of its own
        resume.set()
        await store.put("next", [b"x"], 1)
        assert [found.key async for found in store.list()] == ["next"]


async def test_sweeping_spares_a_put_under_way(store: LocalStore) -> None:
    reached, resume = threading.Event(), threading.Event()

    def chunks() -> Iterator[bytes]:
        yield b"ha"
        reached.set()
        resume.wait(10)
        yield b"lf"

    putting = asyncio.ensure_future(store.put(KEY, chunks(), 4))
    await asyncio.to_thread(reached.wait, 10)
    assert await store.remove_unfinished(datetime.now(UTC) - HOUR) == 0
    resume.set()
    await putting
    assert await store.stat(KEY)


async def test_a_listing_follows_no_symbolic_link_and_shows_no_foreign_file(
    store: LocalStore, root: Path, tmp_path: Path
) -> None:
    await store.put(KEY, [b"x"], 1)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_bytes(b"x")
    (root / "link").symlink_to(tmp_path / "outside")
    (root / "file-link").symlink_to(tmp_path / "outside" / "file")
    (root / "loop").symlink_to(root)
    (root / "Thumbs.db").write_bytes(b"x")
    (root / "lost+found").mkdir()
    os.mkfifo(root / "pipe")
    assert [found.key async for found in store.list()] == [KEY]


async def test_a_listing_goes_on_when_files_and_folders_vanish_meanwhile(
    store: LocalStore, root: Path
) -> None:
    for folder in range(4):
        (root / str(folder)).mkdir()
        for number in range(400):
            (root / str(folder) / str(number)).touch()
    seen = 0
    async for _ in store.list():
        seen += 1
        if seen == 1:
            for folder in range(4):
                shutil.rmtree(root / str(folder))
    assert 1 <= seen <= 500


async def test_others_may_read_nothing(store: LocalStore, root: Path) -> None:
    before = os.umask(0)
    try:
        await store.put(KEY, [b"x"], 1)
    finally:
        os.umask(before)
    assert modes_below(root) == {".unfinished": 0o750, "blobs": 0o750, "blobs/0f": 0o750, KEY: 0o640}


async def test_a_second_start_keeps_what_is_there(root: Path) -> None:
    async with started(root) as store:
        await store.put(KEY, [b"kept"], 4)
    async with started(root) as store:
        found = await store.stat(KEY)
        assert found
        assert found.size == 4


@pytest.mark.parametrize("below", ["", "objects", "deep/er"])
async def test_a_file_in_the_place_of_the_directory_is_refused_at_the_start(
    tmp_path: Path, below: str
) -> None:
    (tmp_path / "file").write_bytes(b"")
    store = LocalStore("pictures", tmp_path / "file" / below)
    with pytest.raises(SettingsError, match=r"CHITRAM_STORAGE_URLS.*'pictures'.*directory"):
        await store.start()
    await store.aclose()


async def test_a_deep_folder_goes_with_its_last_object_and_the_others_stay(root: Path) -> None:
    async with started(root) as store:
        for key in ("made/0f/one/a", "made/0f/one/b", "blobs/0f/one"):
            await store.put(key, [b"x"], 1)
        await store.delete("made/0f/one/a")
        assert (root / "made/0f/one").is_dir()
        await store.delete("made/0f/one/b")
        await store.delete("blobs/0f/one")
        assert not (root / "made/0f/one").exists()
        assert (root / "made/0f").is_dir()
        assert (root / "blobs/0f").is_dir()


async def test_no_put_is_lost_to_the_removal_of_its_folder(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = directory._open_folder
    vanished: list[Path] = []

    def vanish_first(path: Path | str, *others: Any) -> int:
        if path == "one" and len(vanished) < 3:
            vanished.append(root / "made/0f/one")
            vanished[-1].rmdir()
        return opened(path, *others)

    monkeypatch.setattr(directory, "_open_folder", vanish_first)
    async with started(root) as store:
        await store.put("made/0f/one/a", [b"x"], 1)
    assert len(vanished) == 3
    assert files_of(root / "made") == ["0f/one/a"]


_WITHOUT_THE_FLAG = """
import asyncio, os, sys
del os.RWF_NOWAIT
from pathlib import Path
from chitram.platform.objects.local import LocalStore

async def main():
    store = LocalStore("a", Path(sys.argv[1]))
    await store.start()
    await store.put("aa/key", [b"content"], 7)
    opened = await store.open("aa/key")
    print(await opened.read(0, 7))
    await opened.aclose()
    await store.aclose()

asyncio.run(main())
"""


async def test_a_c_library_that_cannot_say_what_is_cached_reads_in_threads(tmp_path: Path) -> None:
    reading = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _WITHOUT_THE_FLAG, str(tmp_path / "store")), stdout=subprocess.PIPE
    )
    said, _ = await asyncio.wait_for(reading.communicate(), 30)
    assert (reading.returncode, said.strip()) == (0, b"b'content'")

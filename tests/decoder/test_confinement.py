"""What a decoder that was taken over can no longer do."""

from __future__ import annotations

import mmap
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from chitram.images.adapters.children.confine import landlock_version
from chitram.images.adapters.children.spool import ReadOnlySpool
from chitram.images.adapters.decoder.pool import NICENESS
from chitram.platform.spool import Spool
from tests.decoder.conftest import NewPool, Upload
from tests.support import photos

# Loaded first, as a decoder loads all its code: afterwards nothing can be opened.
_CONFINED = """
import ctypes, errno, mmap, os, resource, signal, socket, subprocess, sys, threading
from chitram.images.adapters.children.confine import confine, limit_cpu
spool = os.open(sys.argv[1], os.O_RDONLY) if sys.argv[1:] else -1
confine(1 << 28, 5)
def refused(call, *arguments):
    try:
        call(*arguments)
    except (OSError, MemoryError, RuntimeError, ValueError) as error:
        print(type(error).__name__)
    else:
        print("DONE")
"""


def _confined(code: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run code in a process that is confined as decoders are, coverage or not."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("COVERAGE")}
    return subprocess.run(
        [sys.executable, "-c", _CONFINED + code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        env=environment,
    )


def test_goes_behind_those_who_answer_requests() -> None:
    done = _confined("print(os.nice(0))")
    assert int(done.stdout) == min(os.nice(0) + NICENESS, 19)


@pytest.mark.parametrize(
    ("call", "error", "landlock"),
    [
        ("bytearray, 1 << 28", "MemoryError", 0),
        ("os.write, os.memfd_create('any'), b'x'", "OSError", 0),
        ("[os.dup(1) for _ in range(12)] and os.dup, 1", "OSError", 0),
        ("os.fork", "BlockingIOError", 0),
        ("threading.Thread(target=print).start", "RuntimeError", 0),
        ("resource.setrlimit, resource.RLIMIT_AS, (1 << 40, 1 << 40)", "ValueError", 0),
        ("resource.setrlimit, resource.RLIMIT_FSIZE, (1, 1)", "ValueError", 0),
        ("open, '/etc/hostname'", "PermissionError", 1),
        ("open, '/proc/self/mem', 'r+b'", "PermissionError", 1),
        ("os.open, f'/proc/self/fd/{spool}', os.O_RDWR", "PermissionError", 1),
        ("os.listdir, '/'", "PermissionError", 1),
        ("os.execv, '/bin/true', ['true']", "PermissionError|BlockingIOError", 1),
        ("socket.socket().connect, ('127.0.0.1', 9)", "PermissionError", 4),
        ("os.kill, os.getppid(), 0", "PermissionError", 6),
    ],
)
def test_a_confined_process_may_not(tmp_path: Path, call: str, error: str, landlock: int) -> None:
    if landlock_version() < landlock:
        pytest.skip(f"this kernel has no Landlock of version {landlock}")
    (tmp_path / "spool").write_bytes(b"x")
    result = _confined(f"refused({call})", tmp_path / "spool")
    assert re.fullmatch(error, result.stdout.strip()), result.stderr


async def test_a_confined_process_may_not_change_what_lies_in_memory(tmp_path: Path) -> None:
    with Spool(tmp_path) as spool:
        await spool.write(b"as received")
        await spool.flush()
        for change in ("mmap.mmap(opened, 11)", "os.truncate(opened, 0)"):
            result = _confined(
                f"def change():\n opened = os.open(f'/proc/self/fd/{{spool}}', os.O_RDWR)\n {change}\n"
                "refused(change)",
                f"/proc/{os.getpid()}/fd/{spool.fileno()}",
            )
            assert result.stdout == "PermissionError\n", result.stderr


def test_root_becomes_a_user_that_owns_nothing() -> None:
    if os.geteuid() != 0:
        pytest.skip("not root")
    assert _confined("print(os.getresuid(), os.getresgid(), os.getgroups())").stdout == (
        "(65530, 65530, 65530) (65530, 65530, 65530) []\n"
    )


def test_an_image_may_use_so_much_processor_time_and_no_more() -> None:
    assert _confined("limit_cpu(0.0)\nwhile True: pass").returncode == -signal.SIGXCPU


def test_a_lower_limit_that_was_inherited_stays() -> None:
    inherited = "resource.setrlimit(resource.RLIMIT_CPU, (50, 50)); limit_cpu(100.0)\n"
    assert _confined(inherited + "print(resource.getrlimit(resource.RLIMIT_CPU))").stdout == "(50, 50)\n"


async def test_a_decoder_is_confined_before_it_sees_an_image(new_pool: NewPool) -> None:
    pool = await new_pool(memory_bytes=1 << 29)
    pid = pool._children.idle[0].pid
    limits = _limits(pid)
    assert limits["Max address space"] == [str(1 << 29)] * 2
    assert limits["Max core file size"] == ["0", "0"]
    assert "NoNewPrivs:\t1" in Path(f"/proc/{pid}/status").read_text()


async def test_each_image_has_processor_time_of_its_own(new_pool: NewPool, upload: Upload) -> None:
    pool = await new_pool(decode_seconds=1000.0)
    await pool.inspect(upload(photos.jpeg()))
    assert 1001 <= int(_limits(pool._children.idle[0].pid)["Max cpu time"][0]) <= 1010


def _limits(pid: int) -> dict[str, list[str]]:
    """Name of each limit of a process, with its soft and hard value."""
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    return {line[:26].strip(): line[26:].split()[:2] for line in lines}


async def test_a_decoder_knows_no_setting_of_the_server(
    new_pool: NewPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHITRAM_DATABASE_URL", "postgresql://chitram:secret@127.0.0.1/chitram")
    pool = await new_pool()
    known = Path(f"/proc/{pool._children.idle[0].pid}/environ").read_bytes()
    assert b"PATH=" in known
    assert b"CHITRAM" not in known


def test_a_decoder_can_read_an_upload_but_not_change_it(upload: Upload) -> None:
    with ReadOnlySpool.of(upload(photos.jpeg())) as spool:
        assert os.pread(spool.fileno(), 3, 0) == b"\xff\xd8\xff"
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.pwrite(spool.fileno(), b"x", 0)
        with pytest.raises(PermissionError):
            mmap.mmap(spool.fileno(), spool.size)

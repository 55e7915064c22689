"""Children end with their parent, and are stopped within bounds."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from chitram.platform.embedded import logs, process
from chitram.platform.embedded.errors import StartError
from chitram.platform.embedded.process import StopStep, readable, start
from tests.embedded.conftest import needs_root

STAND_INS = Path(__file__).with_name("stand_ins.py")
DEAF = ["/bin/sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 1000; done"]


def started_deaf(log: Path) -> process.Process:
    """A process that ignores SIGTERM, once it does so."""
    child = start("deaf", DEAF, environment={}, log=log)
    while "deaf" not in log.read_text():
        assert child.wait(0.01) is None
    return child


def wait_for_file(path: Path, child: subprocess.Popen[str]) -> str:
    while not (path.exists() and path.read_text()):
        assert child.poll() is None
    return path.read_text()


@pytest.mark.parametrize("user", ["", pytest.param("nobody", marks=needs_root)])
def test_a_child_dies_when_its_parent_is_killed(tmp_path: Path, user: str) -> None:
    ready = tmp_path / "ready"
    parent = subprocess.Popen([sys.executable, STAND_INS, "parent", ready, user], text=True)
    pidfd = os.pidfd_open(int(wait_for_file(ready, parent)))
    parent.kill()
    parent.wait()
    assert readable([pidfd], 10) == [pidfd]
    os.close(pidfd)


def test_a_process_whose_parent_is_gone_already_ends_at_once() -> None:
    assert subprocess.run([sys.executable, STAND_INS, "orphan"], check=False).returncode == -signal.SIGKILL


def test_a_child_has_a_process_group_of_its_own() -> None:
    child = start("child", ["/bin/sleep", "1000"], environment={})
    assert os.getpgid(child.pid) == child.pid
    child.stop()


def test_stopping_tries_the_steps_in_order(tmp_path: Path) -> None:
    child = started_deaf(tmp_path / "log")
    child.stop([StopStep(signal.SIGTERM, 0.05), StopStep(signal.SIGHUP, 10)])
    assert child.wait(0) == -signal.SIGHUP
    assert child.ending() == "was ended by SIGHUP"


def test_stopping_ends_in_a_kill(tmp_path: Path) -> None:
    child = started_deaf(tmp_path / "log")
    child.stop([StopStep(signal.SIGTERM, 0.05)])
    assert child.wait(0) == -signal.SIGKILL


def test_a_hurried_stop_does_not_use_up_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_HURRIED_SECONDS", 0.05)
    child = started_deaf(tmp_path / "log")
    read_end, write_end = os.pipe()
    os.write(write_end, b"!")
    child.stop([StopStep(signal.SIGTERM, 1000)], hurry=read_end)
    assert child.wait(0) == -signal.SIGKILL
    os.close(read_end)
    os.close(write_end)


def test_stopping_a_child_that_has_ended_does_nothing() -> None:
    child = start("child", ["/bin/sh", "-c", "exit 7"], environment={})
    child.stop([StopStep(signal.SIGTERM, 10)])
    child.stop([StopStep(signal.SIGTERM, 10)])
    assert child.wait() in {7, -signal.SIGTERM}


def test_what_a_child_leaves_in_its_group_ends_with_it(tmp_path: Path) -> None:
    log = tmp_path / "log"
    child = start("family", [sys.executable, STAND_INS, "family"], environment=os.environ, log=log)
    assert readable([child.fileno()], 20)
    pidfd = os.pidfd_open(int(log.read_text()))
    assert child.wait() == 0
    assert readable([pidfd], 10) == [pidfd]
    os.close(pidfd)


def test_output_is_added_to_a_log_that_only_its_owner_reads(tmp_path: Path) -> None:
    log = tmp_path / "log"
    for word in ("one", "two"):
        child = start("child", ["/bin/sh", "-c", f"echo {word}; echo {word} >&2"], environment={}, log=log)
        assert child.wait(10) == 0
        assert child.log is not None
        assert child.log.tail() == f"{word}\n{word}"
    assert log.read_text() == "one\none\ntwo\ntwo\n"
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


def test_a_log_that_has_grown_large_is_put_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_MAX_BYTES", 3)
    log = tmp_path / "log"
    log.write_text("before")
    start("child", ["/bin/sh", "-c", "echo now"], environment={}, log=log).wait(10)
    assert log.read_text() == "now\n"
    assert (tmp_path / "log.1").read_text() == "before"


@pytest.mark.parametrize("program", ["/nowhere/to/be/found", "/etc/passwd"])
def test_a_program_that_cannot_run_is_a_clear_refusal(program: str) -> None:
    with pytest.raises(StartError, match=f"child cannot be started: {program}: "):
        start("child", [program], environment={})


def test_only_the_main_thread_may_start_children() -> None:
    refusals: list[str] = []

    def attempt(action: Callable[[], object]) -> None:
        try:
            action()
        except RuntimeError as error:
            refusals.append(str(error))

    thread = threading.Thread(target=attempt, args=[lambda: start("child", ["/bin/true"], environment={})])
    thread.start()
    thread.join()
    assert refusals == ["children have to be started by the main thread, with which they end"]

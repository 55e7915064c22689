"""What dies is started again, what keeps dying stops everything, and the order is kept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from chitram.platform.embedded import process as process_module
from chitram.platform.embedded import supervisor as supervisor_module
from chitram.platform.embedded.errors import StartError
from chitram.platform.embedded.process import Process, StopStep, readable, start
from chitram.platform.embedded.service import ReadyStep, Service
from chitram.platform.embedded.signals import StopRequested, StopSignals
from chitram.platform.embedded.supervisor import Supervisor

SLEEP = ("/bin/sleep", "1000")


@pytest.fixture
def signals() -> Iterator[StopSignals]:
    with StopSignals() as signals:
        yield signals


def service(name: str, *command: str, spawned: list[Process] | None = None) -> Service:
    def spawn() -> Process:
        process = start(name, command, environment={})
        if spawned is not None:
            spawned.append(process)
        return process

    return Service(name, spawn)


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_what_dies_is_started_again_and_this_is_said_in_one_line(signals: StopSignals) -> None:
    said: list[str] = []
    spawned: list[Process] = []
    supervisor = Supervisor(signals, said.append, changed=interrupt)
    supervisor.start(service("sleeper", *SLEEP, spawned=spawned))
    first = supervisor.processes["sleeper"]
    os.kill(first, signal.SIGKILL)
    supervisor.watch()
    assert said == ["sleeper was ended by SIGKILL; starting it again."]
    assert supervisor.processes["sleeper"] != first
    supervisor.stop()
    assert [process.wait(0) for process in spawned] == [-signal.SIGKILL, -signal.SIGTERM]


def test_what_keeps_dying_stops_everything(signals: StopSignals, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor_module, "_BACK_OFF_SECONDS", (0.0,) * 5)
    said: list[str] = []
    supervisor = Supervisor(signals, said.append)
    supervisor.start(service("faulty", "/bin/false"))
    with pytest.raises(StartError, match="faulty died 6 times within a minute: stopping everything"):
        supervisor.watch()
    assert len(said) == 6
    supervisor.stop()


def test_what_dies_now_and_then_is_always_started_again(
    signals: StopSignals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor_module, "WINDOW_SECONDS", 0.0)
    said: list[str] = []
    supervisor = Supervisor(signals, said.append, changed=lambda: interrupt() if len(said) == 10 else None)
    supervisor.start(service("weak", "/bin/false"))
    supervisor.watch()
    assert len(said) == 10
    supervisor.stop()


def test_restarts_wait_longer_from_death_to_death(
    signals: StopSignals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor_module, "_BACK_OFF_SECONDS", (0.0, 0.2, 1000.0, 1000.0, 1000.0))
    said: list[float] = []
    starts: list[float] = []

    def say(line: str) -> None:
        del line
        said.append(time.monotonic())
        if len(said) == 3:
            interrupt()

    supervisor = Supervisor(signals, say, changed=lambda: starts.append(time.monotonic()))
    supervisor.start(service("weak", "/bin/false"))
    supervisor.watch()
    assert len(starts) == 2
    assert starts[1] - said[1] >= 0.2
    assert supervisor.processes == {}
    supervisor.stop()


def test_what_cannot_be_started_again_counts_as_dead(
    signals: StopSignals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor_module, "_BACK_OFF_SECONDS", (0.0,) * 5)
    said: list[str] = []
    programs = iter(["/bin/false", *["/nowhere"] * 5])
    supervisor = Supervisor(signals, said.append)
    supervisor.start(Service("lost", lambda: start("lost", [next(programs)], environment={})))
    with pytest.raises(StartError, match="lost died 6 times"):
        supervisor.watch()
    assert (
        said[-1]
        == "lost could not be started again: lost cannot be started: /nowhere: No such file or directory."
    )


def test_a_service_that_does_not_get_ready_is_stopped_with_the_others(signals: StopSignals) -> None:
    spawned: list[Process] = []
    plain = service("slow", *SLEEP, spawned=spawned)
    supervisor = Supervisor(signals, print)
    with pytest.raises(StartError, match=r"slow was not ready within 0 seconds\."):
        supervisor.start(Service("slow", plain.spawn, (ReadyStep(lambda: False, 0.05),)))
    supervisor.stop()
    assert spawned[0].wait(0) == -signal.SIGTERM


def test_a_death_before_the_next_is_ready_is_found(signals: StopSignals) -> None:
    supervisor = Supervisor(signals, print)
    supervisor.start(service("short", "/bin/false"))
    with pytest.raises(StartError, match=r"short ended with status 1 as it started\."):
        supervisor.start(Service("next", service("next", *SLEEP).spawn, (ReadyStep(lambda: False, 60),)))
    supervisor.stop()


def test_a_signal_ends_the_waiting_for_a_service(signals: StopSignals) -> None:
    def never() -> bool:
        interrupt()
        return False

    supervisor = Supervisor(signals, print)
    with pytest.raises(StopRequested):
        supervisor.start(Service("slow", service("slow", *SLEEP).spawn, (ReadyStep(never, 60),)))
    with pytest.raises(StopRequested):
        supervisor.start(service("next", *SLEEP))
    assert list(supervisor.processes) == ["slow"]
    supervisor.stop()


def test_services_are_stopped_in_reverse_order(signals: StopSignals, tmp_path: Path) -> None:
    order = tmp_path / "order"
    supervisor = Supervisor(signals, print)
    for name in ("first", "second", "third"):
        ready = tmp_path / name
        script = f"trap 'echo {name} >> {order}; exit 0' TERM; touch {ready}; while :; do sleep 0.01; done"
        process = supervisor.start(service(name, "/bin/sh", "-c", script))
        while not ready.exists():
            assert process.wait(0.01) is None
    supervisor.stop()
    assert order.read_text().split() == ["third", "second", "first"]
    assert supervisor.processes == {}


def test_a_signal_during_the_stop_hurries_it(
    signals: StopSignals, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(process_module, "_HURRIED_SECONDS", 0.05)
    ready = tmp_path / "ready"
    # Answers the request to stop with another signal to this process, and stays.
    script = f"trap 'kill -INT {os.getpid()}' TERM; touch {ready}; while :; do sleep 0.01; done"
    spawned: list[Process] = []
    plain = service("deaf", "/bin/sh", "-c", script, spawned=spawned)
    supervisor = Supervisor(signals, print)
    supervisor.start(Service("deaf", plain.spawn, stop=(StopStep(signal.SIGTERM, 1000),)))
    while not ready.exists():
        assert spawned[0].wait(0.01) is None
    supervisor.stop()
    assert spawned[0].wait(0) == -signal.SIGKILL


def test_the_first_signal_is_noted_and_the_second_interrupts() -> None:
    with StopSignals() as signals:
        signals.check()
        interrupt()
        with pytest.raises(StopRequested):
            signals.check()
        with pytest.raises(KeyboardInterrupt):
            interrupt()


def test_signals_that_are_held_are_only_noted() -> None:
    with StopSignals() as signals:
        signals.hold()
        interrupt()
        interrupt()
        assert readable([signals.fileno()], 0)
        signals.forget()
        assert not readable([signals.fileno()], 0)


def test_an_ignored_hangup_stays_ignored() -> None:
    script = (
        "import os, signal\n"
        "from chitram.platform.embedded.signals import StopRequested, StopSignals\n"
        "with StopSignals():\n"
        "    os.kill(os.getpid(), signal.SIGHUP)\n"
        "    print('still here')\n"
    )
    command = ["/bin/sh", "-c", "trap '' HUP; exec \"$@\"", "sh", sys.executable, "-c", script]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "still here\n"


def test_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with StopSignals():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before

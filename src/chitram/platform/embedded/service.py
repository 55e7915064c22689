"""What the stack needs to know of a process to start it, wait for it and stop it."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from chitram.platform.embedded.errors import StartError, disk_full
from chitram.platform.embedded.process import Process, StopStep

_POLL_SECONDS = 0.02
_FULL_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class ReadyStep:
    """One thing to wait for before a process can be used: a probe, and the seconds it has."""

    is_ready: Callable[[], bool]
    seconds: float


@dataclass(frozen=True, slots=True)
class Service:
    """A process that can be started again whenever it ends.

    Attributes:
        spawn: starts it; raises `StartError`.
        ready: what to wait for, in order, until it can be used.
        stop: how it is asked to end before it is killed.
    """

    name: str
    spawn: Callable[[], Process]
    ready: tuple[ReadyStep, ...] = ()
    stop: tuple[StopStep, ...] = (StopStep(signal.SIGTERM, 10),)


@contextmanager
def running(service: Service) -> Iterator[Process]:
    """Run a service, ready to be used, for as long as the block lasts."""
    process = service.spawn()
    try:
        await_ready(service, process)
        yield process
    finally:
        process.stop(service.stop)


def await_ready(service: Service, process: Process, check: Callable[[], None] = lambda: None) -> None:
    """Return once all that `service` waits for has come; see `wait_ready`."""
    for step in service.ready:
        wait_ready(process, step.is_ready, step.seconds, check)


def wait_ready(
    process: Process,
    is_ready: Callable[[], bool],
    seconds: float,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Return once `is_ready()`.

    Args:
        check: called again and again; what it raises ends the waiting.

    Raises `StartError` when the process ends first or time is up.
    """
    deadline = time.monotonic() + seconds
    while not is_ready():
        check()
        if process.wait(_POLL_SECONDS) is not None:
            raise failure(process, f"{process.name} {process.ending()} as it started.")
        if time.monotonic() > deadline:
            raise failure(process, f"{process.name} was not ready within {seconds:.0f} seconds.")


def failure(process: Process, message: str) -> StartError:
    """The error for a process that failed: a known cause, else the end of its log."""
    if process.log is None:
        return StartError(message)
    tail = process.log.tail()
    # A full disk may have no room for the line that says so.
    full = shutil.disk_usage(process.log.path).free < _FULL_BYTES
    if full or os.strerror(errno.ENOSPC) in tail:
        return disk_full(process.log.path)
    return StartError(f"{message} The end of {process.log.path}:\n{tail}")

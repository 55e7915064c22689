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


def _ready_at_once(process: Process) -> None:
    """Nothing to wait for: `process` is useful as soon as it runs."""


@dataclass(frozen=True, slots=True)
class Service:
    """A process that can be started again whenever it ends.

    Attributes:
        spawn: starts it.
        ready: returns once the process can be used; raises `StartError`.
        stop: how it is asked to end before it is killed.
    """

    name: str
    spawn: Callable[[], Process]
    ready: Callable[[Process], None] = _ready_at_once
    stop: tuple[StopStep, ...] = (StopStep(signal.SIGTERM, 10),)


@contextmanager
def running(service: Service) -> Iterator[Process]:
    """Run a service, ready to be used, for as long as the block lasts."""
    process = service.spawn()
    try:
        service.ready(process)
        yield process
    finally:
        process.stop(service.stop)


def wait_ready(process: Process, is_ready: Callable[[], bool], seconds: float) -> None:
    """Return once `is_ready()`; raises `StartError` when the process ends first or time is up."""
    deadline = time.monotonic() + seconds
    while not is_ready():
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

"""Processes of an earlier run, found by a marker in their command line or title."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from chitram.platform.embedded.process import readable


def end_marked(marker: str, uid: int, seconds: float) -> bool:
    """Kill every process of user `uid` that shows `marker`; whether all were gone in time."""
    deadline = time.monotonic() + seconds
    while pids := list(marked(marker, uid)):
        for pid in pids:
            _kill(pid, marker, uid, deadline - time.monotonic())
        if time.monotonic() > deadline:
            return False
    return True


def marked(marker: str, uid: int) -> Iterator[int]:
    """Process ids of user `uid` whose command line holds `marker`, zombies not among them."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and _is_marked(int(entry.name), marker, uid):
            yield int(entry.name)


def _is_marked(pid: int, marker: str, uid: int) -> bool:
    entry = Path("/proc", str(pid))
    try:
        return entry.stat().st_uid == uid and marker.encode() in (entry / "cmdline").read_bytes()
    except OSError:  # it has ended meanwhile
        return False


def _kill(pid: int, marker: str, uid: int, seconds: float) -> None:
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return
    try:
        # The number may belong to another process by now; the descriptor pins it from here on.
        if _is_marked(pid, marker, uid):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            readable([pidfd], seconds)
    except ProcessLookupError:
        return
    finally:
        os.close(pidfd)

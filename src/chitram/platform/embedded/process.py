"""Child processes that are waited for, stopped within bounds and never outlive this process."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import select
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from chitram.platform.embedded.errors import StartError
from chitram.platform.embedded.logs import Log
from chitram.platform.embedded.users import User

_libc = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1  # linux/prctl.h

_KILLED_SECONDS = 5.0
# What each step of a stop may still take once the user has asked a second time.
_HURRIED_SECONDS = 2.0


def die_with_parent(parent: int | None = None, death_signal: signal.Signals = signal.SIGKILL) -> None:
    """Have the kernel end this process as soon as its parent is gone, however that went.

    The kernel binds this to the *thread* that started this process, and forgets it when the user
    id changes. When the parent is gone already, this process ends at once.

    Args:
        parent: process id of the parent; by default the one that multiprocessing knows of, else
            the present one.
        death_signal: what the kernel sends.
    """
    if parent is None:
        known = multiprocessing.parent_process()
        parent = known.pid if known and known.pid else os.getppid()
    _libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(death_signal))
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True, slots=True)
class StopStep:
    """One attempt to end a process: a signal, and the seconds it may take to work."""

    signal_number: signal.Signals
    seconds: float


class Process:
    """A child of this process, in a process group of its own; made by `start`."""

    def __init__(self, name: str, child: subprocess.Popen[bytes], log: Log | None) -> None:
        self.name = name
        self.pid = child.pid
        self.log = log
        self._child = child
        self._pidfd = os.pidfd_open(child.pid)
        self._status: int | None = None

    def fileno(self) -> int:
        """Descriptor that becomes readable when the process ends; closed once `wait` says so."""
        return self._pidfd

    def wait(self, seconds: float | None = None) -> int | None:
        """Return the exit status (negative: a signal), or None if it still runs after `seconds`."""
        if self._status is None and readable([self._pidfd], seconds):
            self._reap()
        return self._status

    def stop(self, steps: Sequence[StopStep] = (), hurry: int | None = None) -> None:
        """End the process by `steps`, one after the other, and in the end by SIGKILL.

        Args:
            hurry: a descriptor; once it is readable, each step gets two seconds at most.
        """
        for step in (*steps, StopStep(signal.SIGKILL, _KILLED_SECONDS)):
            if self.wait(0) is not None:
                return
            signal.pidfd_send_signal(self._pidfd, step.signal_number)
            watched = [self._pidfd] if hurry is None else [self._pidfd, hurry]
            if readable(watched, step.seconds):
                self.wait(min(step.seconds, _HURRIED_SECONDS))

    def ending(self) -> str:
        """In words, how the process ended."""
        if self._status is not None and self._status < 0:
            return f"was ended by {signal.Signals(-self._status).name}"
        return f"ended with status {self._status}"

    def _reap(self) -> None:
        # Before the wait: until then the number of the group cannot belong to anyone else.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._status = self._child.wait()
        os.close(self._pidfd)


def start(  # noqa: PLR0913 - children differ in that much
    name: str,
    command: Sequence[str | Path],
    *,
    environment: Mapping[str, str],
    user: User | None = None,
    log: Path | None = None,
    stdin: int = subprocess.DEVNULL,
    pass_fds: Sequence[int] = (),
    death_signal: signal.Signals = signal.SIGKILL,
    umask: int = 0o077,
) -> Process:
    """Start a process that ends with this one, even when this one is killed.

    It gets a process group of its own, so that a Ctrl-C in the terminal reaches this process only
    and children can be stopped in order. To be called from the main thread: the kernel ends
    children together with the thread that started them.

    Args:
        environment: all of its environment variables.
        user: who it runs as; None for the user of this process.
        log: file that its output is added to; None for the output of this process.
        death_signal: what the kernel sends it when this process dies.
        umask: permissions that nothing it makes has.

    Raises `StartError` when it cannot be started.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("children have to be started by the main thread, with which they end")
    parent = os.getpid()
    output = Log(log) if log else None
    try:
        child = subprocess.Popen(  # noqa: S603 - commands are this program's own
            [os.fspath(part) for part in command],
            env=environment,
            stdin=stdin,
            stdout=output.file if output else None,
            stderr=subprocess.STDOUT if output else None,
            user=user.uid if user else None,
            group=user.gid if user else None,
            extra_groups=[] if user else None,
            # Another user may not be able to enter the directory that this process is in.
            cwd="/" if user else None,
            umask=umask,
            process_group=0,
            pass_fds=pass_fds,
            # It runs after the change of user and takes no lock that another thread could hold.
            preexec_fn=lambda: die_with_parent(parent, death_signal),  # noqa: PLW1509 - see above
        )
    except OSError as error:
        raise StartError(f"{name} cannot be started: {command[0]}: {error.strerror}.") from error
    finally:
        if output:
            output.file.close()
    return Process(name, child, output)


def readable(descriptors: Sequence[int], seconds: float | None) -> list[int]:
    """Wait until one of `descriptors` can be read; those that can, none after `seconds`."""
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    milliseconds = None if seconds is None else max(0.0, seconds) * 1000
    return [descriptor for descriptor, _ in poll.poll(milliseconds)]

"""One child as its pool sees it: a process and the socket to it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self

import msgspec

from chitram.images.adapters.children.frames import (
    LENGTH_BYTES,
    MAX_JOB_BYTES,
    Limits,
    ProtocolError,
    body_length,
    frame,
    read_ready,
)

# The name of a program's module follows.
COMMAND = (sys.executable, "-P", "-m")
# What Python needs to find its code, and coverage to count what runs.
_PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "PYTHONHOME", "PYTHONPATH")
_MEASURING = "COVERAGE_PROCESS_"
# One thread: each more reserves address space, of which a child has little.
_FIXED = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
# Starting takes 0.2 s on an idle machine.
_START_SECONDS = 15.0
_STOP_SECONDS = 5.0
_SHOWN_BYTES = 2000
_READ_BYTES = 256 * 1024


class ChildGone(Exception):
    """The process ended while its answer was awaited; `exit_status` is negative for a signal."""

    def __init__(self, exit_status: int | None) -> None:
        super().__init__(f"the child ended with status {exit_status}")
        self.exit_status = exit_status

    @property
    def used_up(self) -> bool:
        """Whether it ended because its job took more processor time than is allowed."""
        return self.exit_status == -signal.SIGXCPU


class ChildNotStarted(Exception):
    """A child could not be started; the message tells the operator why."""


@dataclass(frozen=True, slots=True)
class Program:
    """What a child runs: `name` is for the log, `module` is started with `terms` as its first message."""

    name: str
    module: str
    terms: Limits


class Child:
    """A child process that does one job at a time."""

    def __init__(self, process: subprocess.Popen[bytes], connection: socket.socket, pidfd: int) -> None:
        self._process = process
        self._connection = connection
        # Readable once the process has ended.
        self._pidfd = pidfd
        # What has come of an answer that is not whole yet.
        self._said = bytearray()
        self.served = 0

    @property
    def pid(self) -> int:
        return self._process.pid

    @classmethod
    async def start(cls, program: Program) -> Self:
        """Start a child and wait until it is ready; raises `ChildNotStarted`.

        Its standard error goes to an anonymous file, which never blocks and which, once the child
        is confined, takes nothing more.
        """
        try:
            with os.fdopen(os.memfd_create(f"{program.name}-stderr"), "r+b", buffering=0) as complaints:
                child = cls(*_spawn(program, complaints))
                await child._greet(program.terms, complaints)
        except OSError as error:
            raise ChildNotStarted(str(error)) from error
        return child

    async def _greet(self, terms: Limits, complaints: IO[bytes]) -> None:
        try:
            async with asyncio.timeout(_START_SECONDS):
                self._connection.send(frame(terms))
                read_ready(await self.answer(MAX_JOB_BYTES))
        except (ChildGone, ProtocolError, OSError) as error:
            await self.kill()
            raise ChildNotStarted(_told(complaints) or repr(error)) from error
        except BaseException:
            await self.kill()
            raise

    def is_usable(self) -> bool:
        """Whether it waits for a job: it has neither ended nor said anything unasked."""
        if self._said:
            return False
        try:
            self._connection.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False

    async def ask(self, job: msgspec.Struct, descriptor: int, most: int) -> bytes:
        """Let it do a job on an open file; return its answer, of `most` bytes, undecoded.

        Raises `ChildGone` and `ProtocolError`. After any error, cancellation included, only `kill`
        may follow.
        """
        self.tell(job, descriptor)
        return await self.answer(most)

    def tell(self, job: msgspec.Struct, descriptor: int) -> None:
        """Begin as `ask` does; raises `ChildGone`."""
        self.served += 1
        try:
            socket.send_fds(self._connection, [frame(job)], [descriptor])
        except OSError as error:
            raise ChildGone(self._process.poll()) from error

    async def answer(self, most: int) -> bytes:
        """End as `ask` does; after a cancellation the answer can still be awaited by another call."""
        while (end := self._end_of_answer(most)) is None:
            await self._hear()
        said = bytes(self._said[LENGTH_BYTES:end])
        # Whatever comes behind it was not asked for, and makes the child unusable.
        del self._said[:end]
        return said

    def _end_of_answer(self, most: int) -> int | None:
        """Where the first message ends; None while it has not come to its end."""
        if len(self._said) < LENGTH_BYTES:
            return None
        end = LENGTH_BYTES + body_length(bytes(self._said[:LENGTH_BYTES]), most)
        return end if len(self._said) >= end else None

    async def _hear(self) -> None:
        try:
            chunk = self._connection.recv(_READ_BYTES)
        except BlockingIOError:
            await self._is_readable()
            return
        except OSError:
            chunk = b""
        if not chunk:
            await self._wait(_STOP_SECONDS)
            raise ChildGone(self._process.poll())
        self._said += chunk

    async def _is_readable(self) -> None:
        """Return when there is something to read.

        Reading itself is not awaited: whoever is cancelled in the moment in which it ends would lose it.
        """
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(self._connection, readable.set)
        try:
            await readable.wait()
        finally:
            loop.remove_reader(self._connection)

    def interrupt(self) -> None:
        """End it at once, and so whatever waits for its answer, by `ChildGone`."""
        self._process.kill()

    async def stop(self) -> None:
        """Let it end by itself, which closing the socket asks for; kill it if it does not."""
        self._connection.close()
        await self._wait(_STOP_SECONDS)
        await self.kill()

    async def kill(self) -> None:
        """End it at once and take note of its end. It cannot be used after that."""
        self._process.kill()
        self._connection.close()
        try:
            await self._wait(_STOP_SECONDS)
        finally:
            os.close(self._pidfd)

    async def _wait(self, seconds: float) -> None:
        """Return when the process has ended and is reaped, or after `seconds`."""
        if self._process.poll() is not None:
            return
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        loop.add_reader(self._pidfd, ended.set)
        try:
            async with asyncio.timeout(seconds):
                await ended.wait()
            self._process.wait()
        except TimeoutError:
            pass
        finally:
            loop.remove_reader(self._pidfd)


def starved_seconds(pid: int) -> float:
    """For how long a process was ready to run in its life, and waited for a processor.

    0 where the kernel does not tell (`/proc/PID/schedstat`, CONFIG_SCHED_INFO).
    """
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0


def _spawn(program: Program, complaints: IO[bytes]) -> tuple[subprocess.Popen[bytes], socket.socket, int]:
    """Start the program. `fork` happens in C and `exec` at once: nothing of ours runs in between."""
    ours, theirs = socket.socketpair()
    try:
        with theirs:
            process = subprocess.Popen(  # noqa: S603 - our own program, no argument from outside
                (*COMMAND, program.module),
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=complaints,
                env=_environment(),
            )
        try:
            pidfd = os.pidfd_open(process.pid)
        except OSError:
            process.kill()
            process.wait()
            raise
    except BaseException:
        ours.close()
        raise
    ours.settimeout(0)
    return process, ours, pidfd


def _environment() -> dict[str, str]:
    kept = {
        name: value for name, value in os.environ.items() if name in _PASSED_ON or name.startswith(_MEASURING)
    }
    return kept | _FIXED


def _told(complaints: IO[bytes]) -> str:
    """Return the end of what a child wrote before it was confined."""
    size = complaints.seek(0, os.SEEK_END)
    complaints.seek(max(0, size - _SHOWN_BYTES))
    return complaints.read().decode(errors="replace").strip()

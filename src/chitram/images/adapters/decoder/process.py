"""One decoder as its pool sees it: a child process and the socket to it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from typing import IO, Self

from chitram.images.adapters.decoder.protocol import (
    LENGTH_BYTES,
    Answer,
    Job,
    ProtocolError,
    Terms,
    body_length,
    frame,
    read_answer,
    read_ready,
)

COMMAND = (sys.executable, "-P", "-m", "chitram.images.adapters.decoder.child")
# What Python needs to find its code, and coverage to count what runs.
_PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "PYTHONHOME", "PYTHONPATH")
_MEASURING = "COVERAGE_PROCESS_"
# One thread: each more reserves address space, of which a decoder has little.
_FIXED = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
# Starting takes 0.2 s on an idle machine.
_START_SECONDS = 15.0
_STOP_SECONDS = 5.0
_SHOWN_BYTES = 2000


class DecoderGone(Exception):
    """The process ended while its answer was awaited; `exit_status` is negative for a signal."""

    def __init__(self, exit_status: int | None) -> None:
        super().__init__(f"the decoder ended with status {exit_status}")
        self.exit_status = exit_status

    @property
    def used_up(self) -> bool:
        """Whether it ended because the image took more processor time than is allowed."""
        return self.exit_status == -signal.SIGXCPU


class DecoderNotStarted(Exception):
    """A decoder could not be started; the message tells the operator why."""


class Decoder:
    """A child process that examines one image at a time."""

    def __init__(self, process: subprocess.Popen[bytes], connection: socket.socket, pidfd: int) -> None:
        self._process = process
        self._connection = connection
        # Readable once the process has ended.
        self._pidfd = pidfd
        self.served = 0

    @property
    def pid(self) -> int:
        return self._process.pid

    @classmethod
    async def start(cls, terms: Terms) -> Self:
        """Start a decoder and wait until it is ready; raises `DecoderNotStarted`.

        Its standard error goes to an anonymous file, which never blocks and which, once the decoder
        is confined, takes nothing more.
        """
        try:
            with os.fdopen(os.memfd_create("decoder-stderr"), "r+b", buffering=0) as complaints:
                decoder = cls(*_spawn(complaints))
                await decoder._greet(terms, complaints)
        except OSError as error:
            raise DecoderNotStarted(str(error)) from error
        return decoder

    async def _greet(self, terms: Terms, complaints: IO[bytes]) -> None:
        try:
            async with asyncio.timeout(_START_SECONDS):
                self._connection.send(frame(terms))
                read_ready(await self._receive())
        except (DecoderGone, ProtocolError, OSError) as error:
            await self.kill()
            raise DecoderNotStarted(_told(complaints) or repr(error)) from error
        except BaseException:
            await self.kill()
            raise

    def is_usable(self) -> bool:
        """Whether it waits for a job: it has neither ended nor said anything unasked."""
        try:
            self._connection.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False

    async def examine(self, descriptor: int, size: int) -> Answer:
        """Let it examine an open file of `size` bytes; raises `DecoderGone` and `ProtocolError`.

        After any error, cancellation included, only `kill` may follow.
        """
        self.served += 1
        try:
            socket.send_fds(self._connection, [frame(Job(size))], [descriptor])
        except OSError as error:
            raise DecoderGone(self._process.poll()) from error
        return read_answer(await self._receive())

    async def _receive(self) -> bytes:
        return await self._exactly(body_length(await self._exactly(LENGTH_BYTES)))

    async def _exactly(self, count: int) -> bytes:
        loop = asyncio.get_running_loop()
        data = bytearray()
        while len(data) < count:
            try:
                chunk = await loop.sock_recv(self._connection, count - len(data))
            except OSError:
                chunk = b""
            if not chunk:
                await self._wait(_STOP_SECONDS)
                raise DecoderGone(self._process.poll())
            data += chunk
        return bytes(data)

    async def stop(self) -> None:
        """Let it end by itself, which closing the socket asks for; kill it if it does not."""
        self._connection.close()
        await self._wait(_STOP_SECONDS)
        await self.kill()

    async def kill(self) -> None:
        """End it at once and take note of its end. It cannot be used after that."""
        self._process.kill()
        self._connection.close()
        await self._wait(_STOP_SECONDS)
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


def _spawn(complaints: IO[bytes]) -> tuple[subprocess.Popen[bytes], socket.socket, int]:
    """Start the program. `fork` happens in C and `exec` at once: nothing of ours runs in between."""
    ours, theirs = socket.socketpair()
    try:
        with theirs:
            process = subprocess.Popen(  # noqa: S603 - our own program, no argument from outside
                COMMAND,
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
    """Return the end of what a decoder wrote before it was confined."""
    size = complaints.seek(0, os.SEEK_END)
    complaints.seek(max(0, size - _SHOWN_BYTES))
    return complaints.read().decode(errors="replace").strip()

"""Requests to stop, as something that can be waited for together with processes."""

from __future__ import annotations

import os
import signal
from types import FrameType, TracebackType
from typing import Self

from chitram.platform.embedded.process import readable


class StopRequested(Exception):
    """Whoever runs this wants it to stop."""


class StopSignals:
    """SIGINT, SIGTERM and SIGHUP while the block lasts.

    They are noted: `fileno()` becomes readable and `check()` raises. Until `hold()` is called a
    second one raises `KeyboardInterrupt` wherever the program is, for what does not get as far as
    a check. A SIGHUP that is ignored (nohup) stays ignored. To be used in the main thread.
    """

    def __init__(self) -> None:
        self._interrupting = True
        self._count = 0
        self._read_end, self._write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._previous = {
            number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        }

    def __enter__(self) -> Self:
        # A signal between a check and a poll would go unnoticed without the wake-up descriptor.
        self._previous_wakeup = signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)
        for number, previous in self._previous.items():
            if number != signal.SIGHUP or previous != signal.SIG_IGN:
                signal.signal(number, self._received)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, previous in self._previous.items():
            signal.signal(number, previous)
        signal.set_wakeup_fd(self._previous_wakeup)
        os.close(self._read_end)
        os.close(self._write_end)

    def hold(self) -> None:
        """From now on only note signals."""
        self._interrupting = False

    def fileno(self) -> int:
        """Descriptor that is readable once a signal was noted."""
        return self._read_end

    def check(self) -> None:
        """Raise `StopRequested` once a signal was noted."""
        if readable([self._read_end], 0):
            raise StopRequested

    def forget(self) -> None:
        """Wait for a new signal: what was noted so far has been seen to."""
        while readable([self._read_end], 0):
            os.read(self._read_end, 64)

    def _received(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self._count += 1
        if self._interrupting and self._count > 1:
            raise KeyboardInterrupt

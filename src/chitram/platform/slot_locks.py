"""Slots and places in a queue that all processes over one file share, kept by the kernel alone.

Each is a lock on one byte of the file (`F_OFD_SETLK`, see fcntl(2)): slots on the first bytes,
places far behind them in the order of arrival. Nothing is ever written. The kernel drops the locks
of a process that ends, however it ends, so there is nothing to repair.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import time
from pathlib import Path
from typing import Self

from chitram.platform.settings import Settings, SettingsError, slots_file

# struct flock on 64-bit Linux: type, whence, start, length, pid.
_FLOCK = struct.Struct("@hhqqi4x")
# Above every slot; what is added is the time of arrival in nanoseconds.
_PLACES = 1 << 62
_SAME_TIME = 100


class SlotLocks:
    """The part of one process in `count` slots, first come, first served over all processes.

    Locks belong to the open file, which is this object's own and is not inherited by children.
    """

    def __init__(self, path: Path, count: int) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._count = count
        self._held: set[int] = set()
        self._arrival: int | None = None
        self._place: int | None = None

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Open the file of these settings; raises `SettingsError` when it cannot be locked."""
        path = slots_file(settings)
        try:
            locks = cls(path, settings.upload_concurrency)
            locks.check()
        except OSError as error:
            raise SettingsError(
                f"CHITRAM_DATA_DIR: upload slots cannot be locked in {path}: {error.strerror}. "
                "It has to be on a file system that this user may write and that knows locks."
            ) from error
        return locks

    def check(self) -> None:
        """Ask the file system for a lock as a test. Raises `OSError`."""
        self._conflict(0, self._count)

    def take(self) -> int | None:
        """Take any slot, or return None when all are taken."""
        for slot in range(self._count):
            if slot not in self._held and self._lock(slot):
                self._held.add(slot)
                return slot
        return None

    def give_back(self, slot: int) -> None:
        """Free a slot for every process."""
        self._unlock(slot)
        self._held.discard(slot)

    def taken_elsewhere(self) -> int:
        """How many slots other processes hold."""
        return sum(self._conflict(slot, 1) for slot in range(self._count))

    def queue_since(self, arrival: int | None) -> None:
        """Take the place of whoever arrived then, the one place this process has; None leaves it."""
        if arrival == self._arrival:
            return
        if self._place is not None:
            self._unlock(self._place)
        self._arrival, self._place = arrival, None
        if arrival is not None:
            # Another process may have come in the same nanosecond.
            places = range(_PLACES + arrival, _PLACES + arrival + _SAME_TIME)
            self._place = next(filter(self._lock, places), None)

    def is_next(self, arrival: int) -> bool:
        """Whether no other process has the place of somebody who arrived earlier."""
        return not self._conflict(_PLACES, arrival)

    def close(self) -> None:
        """Free everything that this process holds. Nothing can be taken afterwards."""
        file, self._file = self._file, -1
        os.close(file)

    def _lock(self, byte: int) -> bool:
        try:
            fcntl.fcntl(self._file, fcntl.F_OFD_SETLK, _flock(fcntl.F_WRLCK, byte, 1))
        except OSError:  # another process has it, or the kernel has no memory for one more
            return False
        return True

    def _unlock(self, byte: int) -> None:
        with contextlib.suppress(OSError):  # closed already, which unlocks too
            fcntl.fcntl(self._file, fcntl.F_OFD_SETLK, _flock(fcntl.F_UNLCK, byte, 1))

    def _conflict(self, start: int, length: int) -> bool:
        """Whether another process has a lock on any of these bytes."""
        if length <= 0:
            return False
        asked = _flock(fcntl.F_WRLCK, start, length)
        found: int = _FLOCK.unpack(fcntl.fcntl(self._file, fcntl.F_OFD_GETLK, asked))[0]
        return found != fcntl.F_UNLCK


def now() -> int:
    """A time of arrival: nanoseconds of the clock that all processes of a machine share."""
    return time.monotonic_ns()


def _flock(kind: int, start: int, length: int) -> bytes:
    return _FLOCK.pack(kind, os.SEEK_SET, start, length, 0)

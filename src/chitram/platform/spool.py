"""Received bytes, on disk, counted and hashed in the same pass."""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from chitram.kernel.errors import StorageUnavailable
from chitram.platform.settings import Settings, SettingsError, spool_dir

# Below this, buffering in memory costs less than one hop to a thread.
_BUFFER_BYTES = 256 * 1024


def make_spool(settings: Settings) -> Path:
    """Make the directory of spools; raises `SettingsError` when that cannot be."""
    path = spool_dir(settings)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"CHITRAM_DATA_DIR: cannot make {path}: {error.strerror}") from error
    return path


class Spool:
    """One body being received: an anonymous file, its size and its SHA-256.

    The file has no name wherever the file system allows (O_TMPFILE), so nothing is left behind
    by a kill. Memory holds at most 256 KiB of it. Disk errors are `StorageUnavailable`.
    """

    def __init__(self, directory: Path) -> None:
        try:
            self._file = tempfile.TemporaryFile(dir=directory, buffering=0)  # noqa: SIM115 - closed by close()
        except OSError as error:
            raise StorageUnavailable("The upload could not be spooled to disk.") from error
        self._hash = hashlib.sha256()
        self._pending = bytearray()
        # A cancelled request may close the file while a thread still writes to its descriptor.
        self._in_use = threading.Lock()
        self.size = 0

    async def write(self, chunk: bytes) -> None:
        """Append `chunk`; hashing and writing happen off the event loop."""
        self._pending += chunk
        self.size += len(chunk)
        if len(self._pending) >= _BUFFER_BYTES:
            await self.flush()

    async def flush(self) -> None:
        """Bring everything received so far into the hash and the file."""
        if self._pending:
            buffer, self._pending = self._pending, bytearray()
            await asyncio.to_thread(self._append, buffer)

    def _append(self, buffer: bytearray) -> None:
        with self._in_use:
            if self._file.closed:
                return
            self._hash.update(buffer)
            view = memoryview(buffer)
            try:
                while view:
                    view = view[os.write(self._file.fileno(), view) :]
            except OSError as error:
                raise StorageUnavailable("The upload could not be spooled to disk.") from error

    @property
    def sha256(self) -> bytes:
        """Digest of all bytes flushed so far."""
        return self._hash.digest()

    def fileno(self) -> int:
        """Descriptor of the open file."""
        return self._file.fileno()

    def close(self) -> None:
        """Give the disk space back."""
        with self._in_use:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

"""Received bytes, on disk unless they are few; counted, and where they are many hashed, in the same pass."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from chitram.kernel.errors import StorageUnavailable
from chitram.platform.settings import Settings, SettingsError, spool_dir

# Up to here hashing and copying a body takes the event loop less time than waking a thread.
IN_MEMORY_BYTES = 256 * 1024
# Of what is longer this much at a time goes to the disk.
_BUFFER_BYTES = 256 * 1024
# Landlock, which keeps a decoder from opening its spool for writing, knows nothing of files in memory.
_SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK


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

    Up to `in_memory` bytes, at most 256 KiB, are a file in memory that nobody can change. What is
    longer lies in one that has no name wherever the file system allows (O_TMPFILE), so nothing is
    left behind by a kill; memory then holds at most 256 KiB of it. Disk errors are `StorageUnavailable`.
    """

    def __init__(self, directory: Path, *, in_memory: int = IN_MEMORY_BYTES) -> None:
        self._directory = directory
        self._in_memory = in_memory
        self._file: IO[bytes] | None = None
        self._closed = False
        self._hash = hashlib.sha256()
        # What stands in a file in memory, until somebody asks for the digest.
        self._unhashed: bytes | bytearray = b""
        self._pending = bytearray()
        # A cancelled request may close the file while a thread still writes to its descriptor.
        self._in_use = threading.Lock()
        self.size = 0

    async def write(self, chunk: bytes) -> None:
        """Append `chunk`; hashing and writing of many bytes happen off the event loop."""
        self._pending += chunk
        self.size += len(chunk)
        if len(self._pending) > _BUFFER_BYTES:
            buffer, self._pending = self._pending, bytearray()
            await asyncio.to_thread(self._append, buffer)

    async def flush(self) -> None:
        """Bring everything received so far into the hash and the file; nothing is written after that."""
        buffer, self._pending = self._pending, bytearray()
        if self.size <= self._in_memory:
            self._append(buffer)
        elif buffer:
            await asyncio.to_thread(self._append, buffer)

    def _append(self, buffer: bytearray) -> None:
        with self._in_use:
            if self._closed:
                return
            if self.size <= self._in_memory:
                self._unhashed = buffer
            else:
                self._hash.update(buffer)
            view = memoryview(buffer)
            try:
                file = self._file = self._file or self._open()
                while view:
                    view = view[os.write(file.fileno(), view) :]
                if self.size <= self._in_memory:
                    fcntl.fcntl(file, fcntl.F_ADD_SEALS, _SEALS)
            except OSError as error:
                raise StorageUnavailable("The upload could not be spooled to disk.") from error

    def _open(self) -> IO[bytes]:
        if self.size > self._in_memory:
            return tempfile.TemporaryFile(dir=self._directory, buffering=0)
        descriptor = os.memfd_create("spool", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        return os.fdopen(descriptor, "r+b", buffering=0)

    @property
    def sha256(self) -> bytes:
        """Digest of all bytes flushed so far. Of a file in memory it is made when it is first asked for."""
        unhashed, self._unhashed = self._unhashed, b""
        self._hash.update(unhashed)
        return self._hash.digest()

    def fileno(self) -> int:
        """Descriptor of the open file, once it is flushed; raises `ValueError` before that."""
        if self._file is None:
            raise ValueError("nothing is flushed yet")
        return self._file.fileno()

    def close(self) -> None:
        """Give the space back."""
        with self._in_use:
            self._closed = True
            if self._file is not None:
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

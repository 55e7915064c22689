"""Objects as files of a directory: the blocking half of the local store."""

from __future__ import annotations

import contextlib
import hashlib
import io
import math
import os
import stat
from collections.abc import Callable, Generator, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

from chitram.platform.objects.base import ObjectStat, is_segment
from chitram.platform.objects.nowait import NOWAIT, READ_FILE, open_cached, tells_what_is_cached

T = TypeVar("T")

_UNFINISHED = ".unfinished"
_FILE_MODE = 0o640
_FOLDER_MODE = 0o750
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_PROBE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# A folder changed this recently may hold the name of another that is not durable yet.
_RECENT_SECONDS = 60.0
# There are a few hundred folders down to here; below, there may be one for each of millions.
_KEPT_DEPTH = 2
# Each is lost to the removal of the last object of a folder.
_PUBLISH_ROUNDS = 20
_HASH_BYTES = 256 * 1024


class File:
    """An object open for reading, closed when the last reference to it goes.

    A thread that still reads holds a reference of its own, so its descriptor is never closed, nor
    given to another file, under its hands.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.found = os.fstat(descriptor)
        if not stat.S_ISREG(self.found.st_mode):
            raise FileNotFoundError

    def __del__(self) -> None:
        os.close(self._descriptor)

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self.found.st_size

    def read(self, offset: int, length: int) -> bytes:
        """Return `length` bytes from `offset` on, fewer at the end; waits for the disk."""
        data = os.pread(self._descriptor, length, offset)
        while len(data) < length and (
            more := os.pread(self._descriptor, length - len(data), offset + len(data))
        ):
            data += more
        return data

    def fileno(self) -> int:
        """Its descriptor."""
        return self._descriptor

    def sha256(self) -> bytes:
        """Digest of all its bytes; waits for the disk."""
        digest, buffer, offset = hashlib.sha256(), bytearray(_HASH_BYTES), 0
        view = memoryview(buffer)
        while count := os.preadv(self._descriptor, [buffer], offset):
            digest.update(view[:count])
            offset += count
        return digest.digest()

    def read_cached(self, offset: int, length: int) -> bytes | None:
        """Do as `read` if the bytes are all in the page cache, else return None at once."""
        if NOWAIT is None:
            return None
        # What is read into this becomes its value without being copied.
        buffer = io.BytesIO()
        buffer.seek(length - 1)
        buffer.write(b"\0")
        try:
            with buffer.getbuffer() as view:
                read = os.preadv(self._descriptor, [view], offset, NOWAIT)
        except OSError:  # nothing is cached, or this file system cannot say
            return None
        return buffer.getvalue() if read == length else None


class Directory:
    """Keys to files under `root`; every method blocks and raises `OSError`.

    Unfinished writes lie in a folder of the root that only `make` makes. Where it is missing, the
    root is not ours any more (a mount is gone) and nothing is written or taken for missing.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._unfinished = root / _UNFINISHED
        self._prefix = os.fsencode(root) + b"/"
        self._tells_what_is_cached = False
        # Folders that stay, and whose own names are known to be durable.
        self._durable: set[str] = set()

    def make(self) -> None:
        """Make what is missing of the root, of what is above it, and the folder in it."""
        for folder in (*reversed(self.root.parents), self.root, self._unfinished):
            if not folder.exists():
                folder.mkdir(_FOLDER_MODE if folder.is_relative_to(self.root) else 0o755, exist_ok=True)
                with contextlib.ExitStack() as opened:
                    os.fsync(_open_folder(folder.parent, opened))

    def write(self, objects: Iterable[tuple[str, Iterable[bytes]]]) -> None:
        """Store chunks under their keys, one after the other: each whole, all durable in the end.

        When it fails, what came before the failure may be there.
        """
        with contextlib.ExitStack() as opened:
            folders: dict[tuple[int, int], int] = {}
            kept: set[str] = set()
            began = math.inf
            for key, chunks in objects:
                written, way = self._store(key, chunks, opened)
                began = min(began, written)
                folders |= {_identity(folder): folder for folder in way}
                if key.count("/") <= _KEPT_DEPTH:
                    kept.add(key.rpartition("/")[0])
            for folder in reversed(folders.values()):
                if os.fstat(folder).st_mtime > began - _RECENT_SECONDS:
                    os.fsync(folder)
        self._durable |= kept

    def _store(
        self, key: str, chunks: Iterable[bytes], opened: contextlib.ExitStack
    ) -> tuple[float, list[int]]:
        """Write and rename a file; return when it was written and the folders on its way, to be synced."""
        temporary = self._unfinished / uuid4().hex
        try:
            written = _write(temporary, chunks)
            for _ in range(_PUBLISH_ROUNDS - 1):
                # A folder may go with its last object just before this one gets into it.
                with contextlib.suppress(FileNotFoundError):
                    return written, self._publish(temporary, key, opened)
            return written, self._publish(temporary, key, opened)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise

    def _publish(self, temporary: Path, key: str, opened: contextlib.ExitStack) -> list[int]:
        """Rename a file to its key; return the folders on the way that are to be synced, the root first.

        They stay open, so what is synced is what the name went into.
        """
        *segments, name = key.split("/")
        if (path := "/".join(segments)) in self._durable:
            with contextlib.suppress(FileNotFoundError):
                folder = _open_folder(self.root / path, opened)
                os.rename(temporary, name, dst_dir_fd=folder)
                return [folder]
            # Another directory is in the place of this one.
            self._durable.clear()
        folders = [_open_folder(self.root, opened)]
        for segment in segments:
            with contextlib.suppress(FileExistsError):
                os.mkdir(segment, _FOLDER_MODE, dir_fd=folders[-1])
            folders.append(_open_folder(segment, opened, folders[-1]))
        os.rename(temporary, name, dst_dir_fd=folders[-1])
        return folders

    def open(self, key: str) -> File | None:
        """Open an object, or return None when there is none."""
        return self._unless_missing(lambda: File(os.open(self.root / key, READ_FILE)))

    def open_now(self, key: str) -> File | None:
        """Open an object, or return None at once when that may take waiting for the disk."""
        if self._tells_what_is_cached and (descriptor := open_cached(self._prefix + key.encode())) >= 0:
            with contextlib.suppress(OSError):
                return File(descriptor)
        return None

    def stat(self, key: str) -> ObjectStat | None:
        """Describe an object, or return None when there is none."""
        found = self._unless_missing((self.root / key).lstat)
        return described(key, found) if found and stat.S_ISREG(found.st_mode) else None

    def remove(self, key: str) -> None:
        """Remove an object durably, and with the last of a deep folder that folder."""
        self._unless_missing(lambda: _remove(self.root / key))
        if key.count("/") > _KEPT_DEPTH:
            with contextlib.suppress(OSError):
                (self.root / key).parent.rmdir()

    def walk(self, folder: str, start: str) -> Generator[ObjectStat]:
        """Yield the objects under `folder` whose names there begin with `start`.

        Symbolic links are not followed and what vanishes meanwhile is left out.
        """
        folders = [folder]
        while folders:
            for key, entry in self._entries(folders.pop()):
                if not entry.name.startswith(start):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    folders.append(key)
                elif entry.is_file(follow_symlinks=False):
                    with contextlib.suppress(FileNotFoundError):
                        yield described(key, entry.stat(follow_symlinks=False))
            start = ""
        self._require_root()

    def _entries(self, folder: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
        with (
            contextlib.suppress(FileNotFoundError, NotADirectoryError),
            os.scandir(self.root / folder) as entries,
        ):
            for entry in entries:
                if is_segment(entry.name):
                    yield (f"{folder}/{entry.name}" if folder else entry.name), entry

    def remove_unfinished(self, before: float) -> int:
        """Remove unfinished writes that were last touched before a POSIX time; say how many."""
        removed = 0
        with os.scandir(self._unfinished) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    if entry.stat(follow_symlinks=False).st_mtime < before:
                        Path(entry.path).unlink()
                        removed += 1
        return removed

    def try_to_write(self) -> None:
        """Write one block and remove it: on a full disk an empty file could still be made."""
        probe = self._unfinished / uuid4().hex
        descriptor = os.open(probe, _PROBE, _FILE_MODE)
        try:
            os.write(descriptor, bytes(4096))
            self._tells_what_is_cached = tells_what_is_cached(descriptor)
        finally:
            os.close(descriptor)
            probe.unlink()

    def _unless_missing(self, call: Callable[[], T]) -> T | None:
        """Return what `call` returns, or None for a missing object of a root that is there."""
        try:
            return call()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            self._require_root()
            return None

    def _require_root(self) -> None:
        self._unfinished.stat()


def _write(path: Path, chunks: Iterable[bytes]) -> float:
    """Write a new file and sync it; return its time of modification."""
    descriptor = os.open(path, _NEW_FILE, _FILE_MODE)
    try:
        for chunk in chunks:
            view = memoryview(chunk)
            while view:
                view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
        return os.fstat(descriptor).st_mtime
    finally:
        os.close(descriptor)


def _identity(descriptor: int) -> tuple[int, int]:
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino


def _remove(path: Path) -> None:
    with contextlib.ExitStack() as opened:
        folder = _open_folder(path.parent, opened)
        os.unlink(path.name, dir_fd=folder)
        os.fsync(folder)


def _open_folder(path: Path | str, opened: contextlib.ExitStack, above: int | None = None) -> int:
    descriptor = os.open(path, _FOLDER, dir_fd=above)
    opened.callback(os.close, descriptor)
    return descriptor


def described(key: str, found: os.stat_result) -> ObjectStat:
    """Make of what the kernel says of a file what a store says of an object."""
    return ObjectStat(key, found.st_size, datetime.fromtimestamp(found.st_mtime, UTC))

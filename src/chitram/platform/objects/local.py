"""Objects as files of a directory: the store, whose disk may be slow, full or gone."""

from __future__ import annotations

import errno
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from datetime import datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Literal, TypeVar

import structlog

from chitram.kernel.errors import StorageUnavailable
from chitram.platform.objects.base import (
    DEFAULT_MEDIA_TYPE,
    NewObject,
    ObjectNotFound,
    ObjectStat,
    check_key,
    check_presigned_seconds,
    split_prefix,
)
from chitram.platform.objects.blocking import Threads, counted
from chitram.platform.objects.directory import Directory, File, described
from chitram.platform.settings import SettingsError

T = TypeVar("T")

_READ_THREADS = 16
_WRITE_THREADS = 8
# A disk that is slower is as good as hung: an object of 5 MB has half a second more.
_SLOWEST_BYTES_PER_SECOND = 10 * 1024 * 1024
_LIST_BATCH = 500
_SWEEP_SECONDS = 60.0
# Up to here copying from the page cache takes the event loop less time than waking a thread.
_INLINE_BYTES = 256 * 1024

_MESSAGES = {
    errno.ENOSPC: "The image store is full.",
    errno.EDQUOT: "The image store is full.",
    errno.EROFS: "The image store is read-only.",
    errno.EACCES: "The image store refuses access.",
    errno.EPERM: "The image store refuses access.",
    errno.ENOENT: "The image store is not there.",
}

log = structlog.get_logger(__name__)


class LocalStore:
    """An object store over the directory `root`, an absolute path.

    A disk that does not answer in `seconds` makes the store unavailable; a put has more by its
    size. Everything that may wait for the disk runs in threads of the store's own.
    """

    def __init__(self, name: str, root: Path, *, seconds: float = 4.0) -> None:
        self._name = name
        self._directory = Directory(root)
        self._made = False
        self._seconds = seconds
        self._readers = Threads(f"{name}-read", _READ_THREADS)
        self._writers = Threads(f"{name}-write", _WRITE_THREADS)

    @property
    def name(self) -> str:
        return self._name

    async def start(self) -> None:
        try:
            # Once: where it is missing later, a mount has gone.
            if not self._made:
                await self._readers.run(self._directory.make, self._seconds)
                self._made = True
        except OSError as error:
            raise SettingsError(
                f"CHITRAM_STORAGE_URLS: the store {self._name!r} cannot use {self._directory.root}: "
                f"{error.strerror}. It has to be a directory that this user may write."
            ) from error
        await self.check()

    async def put(
        self,
        key: str,
        chunks: Iterable[bytes],
        size: int,
        media_type: str = DEFAULT_MEDIA_TYPE,  # noqa: ARG002 - part of the protocol
    ) -> None:
        await self._put([(check_key(key), chunks, size)])

    async def put_all(self, objects: Sequence[NewObject]) -> None:
        await self._put([(check_key(each.key), [each.content], len(each.content)) for each in objects])

    async def _put(self, objects: Sequence[tuple[str, Iterable[bytes], int]]) -> None:
        abandoned = threading.Event()
        contents = [(key, counted(chunks, size, abandoned)) for key, chunks, size in objects]
        size = sum(size for _, _, size in objects)
        try:
            await self._call(partial(self._directory.write, contents), self._writers, self._patience(size))
        finally:
            abandoned.set()

    async def open(self, key: str) -> OpenFile:
        file = self._directory.open_now(check_key(key)) or await self._call(
            partial(self._directory.open, key)
        )
        if file is None:
            raise ObjectNotFound
        return OpenFile(file, self._call, self._sha256)

    async def _sha256(self, file: File) -> bytes:
        return await self._call(file.sha256, seconds=self._patience(file.size))

    def _patience(self, size: int) -> float:
        return self._seconds + size / _SLOWEST_BYTES_PER_SECOND

    async def presign(self, method: Literal["GET", "PUT"], key: str, seconds: int) -> None:  # noqa: ARG002 - part of the protocol
        """Return None: a directory has no addresses."""
        check_key(key)
        check_presigned_seconds(seconds)

    def internal_path(self, key: str) -> str:
        return check_key(key)

    async def stat(self, key: str) -> ObjectStat | None:
        if file := self._directory.open_now(check_key(key)):
            return described(key, file.found)
        return await self._call(partial(self._directory.stat, key))

    async def delete(self, key: str) -> None:
        await self._call(partial(self._directory.remove, check_key(key)))

    async def list(self, prefix: str = "") -> AsyncIterator[ObjectStat]:
        found = self._directory.walk(*split_prefix(prefix))
        while entries := await self._call(lambda: [*islice(found, _LIST_BATCH)]):
            for entry in entries:
                yield entry

    async def remove_unfinished(self, before: datetime, prefix: str = "") -> int:  # noqa: ARG002 - part of the protocol
        sweep = partial(self._directory.remove_unfinished, before.timestamp())
        return await self._call(sweep, seconds=_SWEEP_SECONDS)

    async def check(self) -> None:
        await self._call(self._directory.try_to_write)

    async def aclose(self) -> None:
        self._readers.close()
        self._writers.close()

    async def _call(
        self, call: Callable[[], T], threads: Threads | None = None, seconds: float | None = None
    ) -> T:
        """Run `call` in a thread and turn what the disk says into `StorageUnavailable`."""
        try:
            return await (threads or self._readers).run(call, seconds or self._seconds)
        except OSError as error:
            number = error.errno or 0
            log.warning("object store failed", store=self._name, cause=errno.errorcode.get(number))
            raise StorageUnavailable(_MESSAGES.get(number)) from error


class OpenFile:
    """A file held open for reading."""

    def __init__(
        self,
        file: File,
        call: Callable[[Callable[[], bytes]], Awaitable[bytes]],
        digest: Callable[[File], Awaitable[bytes]],
    ) -> None:
        self._file: File | None = file
        self._call = call
        self._digest = digest
        self._size = file.size

    @property
    def size(self) -> int:
        return self._size

    async def read(self, offset: int, length: int) -> bytes:
        if self._file is None or offset < 0 or length < 0:
            raise ValueError("this cannot be read")
        length = min(length, self._size - offset)
        if length <= 0:
            return b""
        if length <= _INLINE_BYTES and (cached := self._file.read_cached(offset, length)) is not None:
            return cached
        return await self._call(partial(self._file.read, offset, length))

    async def as_file(self) -> FileObject:
        if self._file is None:
            raise ValueError("this cannot be read")
        file = self._file
        return FileObject(file, await self._digest(file))

    async def aclose(self) -> None:
        self._file = None


class FileObject:
    """A file that was read and hashed; open until the last reference to it goes."""

    def __init__(self, file: File, sha256: bytes) -> None:
        self._file = file
        self.size = file.size
        self.sha256 = sha256

    def fileno(self) -> int:
        return self._file.fileno()

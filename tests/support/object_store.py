"""An object store in memory, proved equal to the real ones by tests/contract."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import UTC, datetime
from typing import Literal

from chitram.platform.objects.base import (
    DEFAULT_MEDIA_TYPE,
    NewObject,
    ObjectNotFound,
    ObjectStat,
    check_key,
    check_presigned_seconds,
    split_prefix,
)
from chitram.platform.objects.blocking import counted


class MemoryStore:
    """Objects in a dictionary.

    Attributes:
        objects: what is stored, by key.
        modified: when it was, by key.
        media_types: what it was put as, by key.
        fail_with: raised by every call while it is set.
    """

    def __init__(self, name: str = "memory") -> None:
        self._name = name
        self.objects: dict[str, bytes] = {}
        self.modified: dict[str, datetime] = {}
        self.media_types: dict[str, str] = {}
        self.fail_with: Exception | None = None

    @property
    def name(self) -> str:
        return self._name

    async def start(self) -> None:
        self._fail()

    async def put(
        self, key: str, chunks: Iterable[bytes], size: int, media_type: str = DEFAULT_MEDIA_TYPE
    ) -> None:
        check_key(key)
        self._fail()
        abandoned = threading.Event()
        try:
            self.objects[key] = await asyncio.to_thread(b"".join, counted(chunks, size, abandoned))
        finally:
            abandoned.set()
        self.modified[key] = datetime.now(UTC)
        self.media_types[key] = media_type

    async def put_all(self, objects: Sequence[NewObject]) -> None:
        for each in objects:
            await self.put(each.key, [each.content], len(each.content), each.media_type)

    async def open(self, key: str) -> MemoryObject:
        check_key(key)
        self._fail()
        if key not in self.objects:
            raise ObjectNotFound
        return MemoryObject(self.objects[key])

    async def presign(self, method: Literal["GET", "PUT"], key: str, seconds: int) -> None:
        check_key(key)
        check_presigned_seconds(seconds)

    def internal_path(self, key: str) -> None:
        check_key(key)

    async def stat(self, key: str) -> ObjectStat | None:
        check_key(key)
        self._fail()
        return self._describe(key) if key in self.objects else None

    async def delete(self, key: str) -> None:
        check_key(key)
        self._fail()
        self.objects.pop(key, None)

    async def list(self, prefix: str = "") -> AsyncIterator[ObjectStat]:
        split_prefix(prefix)
        self._fail()
        for stat in [self._describe(key) for key in self.objects if key.startswith(prefix)]:
            yield stat

    async def remove_unfinished(self, before: datetime, prefix: str = "") -> int:
        self._fail()
        return 0

    async def check(self) -> None:
        self._fail()

    async def aclose(self) -> None:
        pass

    def _fail(self) -> None:
        if self.fail_with:
            raise self.fail_with

    def _describe(self, key: str) -> ObjectStat:
        return ObjectStat(key, len(self.objects[key]), self.modified[key])


class MemoryObject:
    """The bytes as they were when the object was opened."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    @property
    def size(self) -> int:
        return len(self._content)

    async def read(self, offset: int, length: int) -> bytes:
        if offset < 0 or length < 0:
            raise ValueError("this cannot be read")
        return self._content[offset : offset + length]

    async def as_file(self) -> None:
        """Return None: it is in memory."""

    async def aclose(self) -> None:
        pass

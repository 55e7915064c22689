"""What every object store here can do, whatever it keeps the bytes on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from datetime import datetime
from typing import Protocol

import msgspec


class ObjectNotFound(LookupError):
    """There is no object under this key."""


class ObjectStat(msgspec.Struct, frozen=True):
    """An object as a listing shows it: `size` in bytes, `modified` in UTC."""

    key: str
    size: int
    modified: datetime


class OpenObject(Protocol):
    """One object held open for reading: it stays readable even if deleted meanwhile."""

    @property
    def size(self) -> int:
        """Whole length in bytes."""
        ...

    async def read(self, offset: int, length: int) -> bytes:
        """Return the bytes from `offset` on, `length` at most, fewer only at the end.

        Raises `StorageUnavailable`.
        """
        ...

    async def aclose(self) -> None: ...


class ObjectStore(Protocol):
    """Keys to bytes. Keys are relative paths of `[a-z0-9._-]` segments; the caller makes them.

    Every method raises `kernel.errors.StorageUnavailable` when the store cannot be reached, does
    not answer in time, is full or refuses; what was half written is never visible.
    """

    @property
    def name(self) -> str:
        """The name under which rows remember this store."""
        ...

    async def put(self, key: str, chunks: Iterable[bytes], size: int) -> None:
        """Store `size` bytes under `key`, replacing what was there; durable once it returns.

        `chunks` is consumed in a worker thread, never on the event loop.
        """
        ...

    async def open(self, key: str) -> OpenObject:
        """Open an object for reading; raises `ObjectNotFound`."""
        ...

    async def stat(self, key: str) -> ObjectStat | None:
        """Describe an object, or None when there is none."""
        ...

    async def delete(self, key: str) -> None:
        """Remove an object; removing what is not there is not an error."""
        ...

    def list(self, prefix: str = "") -> AsyncIterator[ObjectStat]:
        """Yield every object whose key starts with `prefix`, in no particular order."""
        ...

    async def remove_unfinished(self, before: datetime) -> int:
        """Remove remains of writes that began before `before` and never ended; say how many."""
        ...

    async def check(self) -> None:
        """Return when the store can take writes now; raises `StorageUnavailable`."""
        ...

    async def aclose(self) -> None: ...

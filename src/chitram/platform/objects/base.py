"""What every object store here can do, whatever it keeps the bytes on."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Literal, Protocol

import msgspec

# 255 is what common file systems allow for a name, 1024 what S3 allows for a key.
_MAX_SEGMENT = 255
_MAX_KEY = 1024
# What S3 takes for the life of an address.
_MAX_PRESIGNED_SECONDS = 7 * 86_400
DEFAULT_MEDIA_TYPE = "application/octet-stream"
_SEGMENT = re.compile(r"[a-z0-9][a-z0-9._-]*", re.ASCII)


class ObjectNotFound(LookupError):
    """There is no object under this key."""


class ObjectStat(msgspec.Struct, frozen=True):
    """An object as a listing shows it: `size` in bytes, `modified` in UTC."""

    key: str
    size: int
    modified: datetime


class NewObject(msgspec.Struct, frozen=True):
    """An object that is small enough to be put from memory."""

    key: str
    content: bytes
    media_type: str = DEFAULT_MEDIA_TYPE


class HashedFile(Protocol):
    """A file of this machine that is an object, open for reading as long as this is kept.

    `sha256` is the digest of its `size` bytes.
    """

    @property
    def size(self) -> int: ...

    @property
    def sha256(self) -> bytes: ...

    def fileno(self) -> int: ...


class OpenObject(Protocol):
    """One object held open for reading.

    When it is deleted meanwhile, a local file stays readable; a remote object raises
    `ObjectNotFound` or `StorageUnavailable` from then on. Never are two versions mixed.
    """

    @property
    def size(self) -> int:
        """Whole length in bytes."""
        ...

    async def read(self, offset: int, length: int) -> bytes:
        """Return the bytes from `offset` on, `length` at most, fewer only at the end.

        Raises `StorageUnavailable`, and `ObjectNotFound` as told above.
        """
        ...

    async def aclose(self) -> None:
        """Let go of the object; a read under way may still end well."""
        ...


class HeldObject(OpenObject, Protocol):
    """One object that a store holds open."""

    async def as_file(self) -> HashedFile | None:
        """Read and hash the file that the object is; None when it is none of this machine's.

        Raises `StorageUnavailable`.
        """
        ...


class ObjectStore(Protocol):
    """Keys to bytes.

    Keys are relative paths of `[a-z0-9._-]` segments that begin with a letter or digit; no key is
    the folder of another. The caller makes them: a wrong one is a `ValueError`.

    Every method raises `kernel.errors.StorageUnavailable` when the store cannot be reached, does
    not answer in time, is full or refuses; what was half written is never visible. A store that
    has vanished (a lost mount, a missing bucket) is unavailable, not empty.
    """

    @property
    def name(self) -> str:
        """The name under which rows remember this store."""
        ...

    async def start(self) -> None:
        """Make the store ready, once, before its first use.

        Raises `platform.settings.SettingsError` when it can never work as configured.
        """
        ...

    async def put(
        self, key: str, chunks: Iterable[bytes], size: int, media_type: str = DEFAULT_MEDIA_TYPE
    ) -> None:
        """Store `size` bytes under `key`, replacing what was there; durable once it returns.

        `media_type` is what a server says of the object to whoever fetches it by an address of its
        own; a local store keeps none.

        `chunks` is consumed in a worker thread, never on the event loop; what it raises is raised
        here. Chunks that are not `size` bytes in all are a `ValueError`. When the call is
        cancelled or out of time, the object is there whole or not at all; the thread may ask for
        one more chunk after that.
        """
        ...

    async def put_all(self, objects: Sequence[NewObject]) -> None:
        """Store several objects as `put` does; when it fails, any of them may be there."""
        ...

    async def open(self, key: str) -> HeldObject:
        """Open an object for reading; raises `ObjectNotFound`."""
        ...

    async def presign(self, method: Literal["GET", "PUT"], key: str, seconds: int) -> str | None:
        """Make an address at which whoever has it may do `method` to `key` for `seconds`.

        None when the store has no addresses of its own. Nothing is asked of the server, so the
        object need not be there. `seconds` are 1 to 604800, else it is a `ValueError`.
        """
        ...

    def internal_path(self, key: str) -> str | None:
        """Path of an object below the directory of a local store; None for every other store."""
        ...

    async def stat(self, key: str) -> ObjectStat | None:
        """Describe an object, or None when there is none."""
        ...

    async def delete(self, key: str) -> None:
        """Remove an object; removing what is not there is not an error."""
        ...

    def list(self, prefix: str = "") -> AsyncIterator[ObjectStat]:
        """Yield every object whose key starts with `prefix`, in no particular order.

        What is put or deleted meanwhile may be seen or not. An error ends the listing: one that
        ends by itself is complete.
        """
        ...

    async def remove_unfinished(self, before: datetime, prefix: str = "") -> int:
        """Remove remains of writes that began before `before` and never ended; say how many.

        In a bucket, which others may use too, only those under keys that start with `prefix`.
        """
        ...

    async def check(self) -> None:
        """Return when the store can be used now; raises `StorageUnavailable`.

        Cheap enough for every second. A local store proves that it takes writes, a remote one
        that it answers and that its bucket is there.
        """
        ...

    async def aclose(self) -> None: ...


def is_segment(name: str) -> bool:
    """Say whether `name` may be one segment of a key."""
    return len(name) <= _MAX_SEGMENT and _SEGMENT.fullmatch(name) is not None


@lru_cache(4096)
def is_key(key: str) -> bool:
    """Say whether `key` follows the rule for keys."""
    return len(key) <= _MAX_KEY and all(map(is_segment, key.split("/")))


def check_key(key: str) -> str:
    """Return `key`; raises `ValueError` when it breaks the rule for keys."""
    if not is_key(key):
        raise ValueError("this is not an object key")
    return key


def check_presigned_seconds(seconds: int) -> int:
    """Return `seconds`; raises `ValueError` when no address may live that long."""
    if not 1 <= seconds <= _MAX_PRESIGNED_SECONDS:
        raise ValueError("an address may be made for 1 second to 7 days")
    return seconds


def split_prefix(prefix: str) -> tuple[str, str]:
    """Split a prefix into the folder that holds all its keys and how their names begin there.

    Raises `ValueError` when no key could start with it.
    """
    folder, _, start = prefix.rpartition("/")
    if folder:
        check_key(folder)
    if (start and not is_segment(start)) or (prefix and not folder and not start):
        raise ValueError("this is not a prefix of object keys")
    return folder, start

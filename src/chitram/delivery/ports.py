"""What delivery needs from outside."""

from __future__ import annotations

from typing import Protocol

import msgspec

from chitram.images.public import ImageView


class OpenFile(Protocol):
    """The bytes of an image, held open for reading."""

    @property
    def size(self) -> int:
        """Whole length in bytes."""
        ...

    async def read(self, offset: int, length: int) -> bytes:
        """Return the bytes from `offset` on, `length` at most. Raises `StorageUnavailable`."""
        ...

    async def aclose(self) -> None: ...


class ImageFiles(Protocol):
    """Opens the stored bytes of images."""

    async def open(self, view: ImageView) -> OpenFile:
        """Open an image's file.

        Raises `ImageNotFound` when the bytes went away since the row was read, and
        `StorageUnavailable`.
        """
        ...


class SentByProxy(msgspec.Struct, frozen=True):
    """The proxy before us sends the bytes, from its internal address `path`."""

    path: str


class SentByStore(msgspec.Struct, frozen=True):
    """The store sends the bytes to whoever comes to `url`, for a short while."""

    url: str


class Delivery(Protocol):
    """Has the bytes of images sent by somebody else, where that is cheaper."""

    async def hand_over(self, view: ImageView, seconds: int | None) -> SentByProxy | SentByStore | None:
        """Prepare that somebody else sends an image's file or one range of it.

        None when this server has to. `seconds` is how long the client may be let in at
        most, None without an end.

        Raises `ImageNotFound` and `StorageUnavailable` as far as the bytes are looked at.
        """
        ...

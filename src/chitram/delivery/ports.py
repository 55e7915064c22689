"""What delivery needs from outside."""

from __future__ import annotations

from typing import Protocol

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

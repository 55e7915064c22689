"""What delivery needs from outside."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from functools import cached_property
from typing import Protocol
from uuid import UUID

import msgspec

from chitram.delivery.representations import Representation
from chitram.images.public import ImageView, image_body
from chitram.kernel.errors import StorageUnavailable


class XCache(StrEnum):
    """Where metadata came from: a cache, the database past a cache, or there is no cache."""

    HIT = "HIT"
    MISS = "MISS"
    DISABLED = "DISABLED"


class ReadImage:
    """An image as it was read, for answers that share it; never changed."""

    def __init__(self, view: ImageView) -> None:
        self.view = view
        self._chosen: dict[Callable[[ImageView], Representation], Representation] = {}

    def representation(self, choose: Callable[[ImageView], Representation]) -> Representation:
        """What `choose` chooses of the image, chosen once for all answers. Raises what that raises."""
        if (chosen := self._chosen.get(choose)) is None:
            chosen = self._chosen[choose] = choose(self.view)
        return chosen

    @cached_property
    def body(self) -> bytes:
        """Its metadata in JSON, as clients get it; encoded once for all answers."""
        return msgspec.json.encode(image_body(self.view))


class ImageReads(Protocol):
    """Reads of images by their id, from a cache where there is one."""

    async def find(self, image_id: UUID) -> tuple[ReadImage | None, XCache]:
        """The image, whether or not its time is up and whoever asks; None when there is none.

        What is found was true at most a second before this was called. Raises
        `DatabaseUnavailable` when no cache has it either.
        """
        ...


class ObjectMissing(StorageUnavailable):
    """No store that should have these bytes has them."""

    default_message = "The stored file is missing."


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

    async def open(self, wanted: Representation) -> OpenFile:
        """Open the bytes of a representation.

        Raises `ImageNotFound` when the blob went away since the row was read, `ObjectMissing` when
        it did not and yet there is no such object, and `StorageUnavailable`.
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

    async def hand_over(
        self, wanted: Representation, seconds: int | None
    ) -> SentByProxy | SentByStore | None:
        """Prepare that somebody else sends these bytes or one range of them.

        None when this server has to. `seconds` is how long the client may be let in at
        most, None without an end.

        Raises `StorageUnavailable` as far as the bytes are looked at.
        """
        ...

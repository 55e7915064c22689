"""An upload's file as a child may have it: for reading only."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from types import TracebackType
from typing import IO, Self

from chitram.images.domain.content import Piece, Received, Slice, stored_chunks
from chitram.kernel.errors import StorageUnavailable


@dataclass(frozen=True, slots=True)
class ReadOnlySpool:
    """A descriptor of our own to what was received, which may be closed meanwhile.

    It is opened anew rather than duplicated: the upload's own descriptor can be written to, and a
    child that was taken over could change the bytes after they were checked.
    """

    file: IO[bytes]
    received: Received

    @classmethod
    def of(cls, received: Received) -> Self:
        """Open what was received once more; raises `StorageUnavailable`."""
        try:
            file = open(f"/proc/self/fd/{received.fileno()}", "rb", buffering=0)  # noqa: SIM115, PTH123 - closed by __exit__, and no path
        except (OSError, ValueError) as error:
            raise StorageUnavailable("The spooled upload cannot be read.") from error
        if os.fstat(file.fileno()).st_size < received.size:
            file.close()
            raise StorageUnavailable("The spooled upload is shorter than what was received.")
        return cls(file, received)

    @property
    def size(self) -> int:
        return self.received.size

    @property
    def sha256(self) -> bytes:
        return self.received.sha256

    def fileno(self) -> int:
        return self.file.fileno()

    def is_whole(self, pieces: tuple[Piece, ...]) -> bool:
        """Whether a plan stores just what was received."""
        return pieces == (Slice(0, self.size),)

    def digest(self, pieces: tuple[Piece, ...]) -> bytes:
        """Return the SHA-256 of what a plan would store. Blocking: reads the disk."""
        if self.is_whole(pieces):
            return self.sha256
        digest = hashlib.sha256()
        for chunk in stored_chunks(self, pieces):
            digest.update(chunk)
        return digest.digest()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.file.close()

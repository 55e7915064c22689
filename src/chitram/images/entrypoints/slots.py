"""How many uploads one process takes at once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from chitram.images.domain.errors import UploadCapacityExceeded


class UploadSlots:
    """Taken before a byte of a body is read, so that slow senders cannot use up every connection."""

    def __init__(self, count: int) -> None:
        self._free = count

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """Hold a slot; raises `UploadCapacityExceeded` when there is none."""
        if not self._free:
            raise UploadCapacityExceeded
        self._free -= 1
        try:
            yield
        finally:
            self._free += 1

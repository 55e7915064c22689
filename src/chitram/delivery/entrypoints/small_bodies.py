"""Bytes of small representations that were read lately, in this process."""

from __future__ import annotations

from collections import OrderedDict

from chitram.delivery.representations import Representation

# Up to here a body is one read and one send.
SMALL_BYTES = 256 * 1024
TOTAL_BYTES = 16 * 1024 * 1024
# Nothing is known of most of them but that they were read once.
MAX_ENTRIES = 1024


class SmallBodies:
    """Whole bodies of what is read again and again, as long as the image is remembered that it was read of.

    A body belongs to one `Representation` and is given for no equal one. Whoever forgets an image, or
    reads it anew, thereby has its bytes read anew. The first reading of a representation is only noted, so
    what is read once, or without a cache of images, takes no memory here. What was read last stays.

    Args:
        total_bytes: of all bodies together.
        max_entries: of bodies and notes together.
    """

    def __init__(self, total_bytes: int = TOTAL_BYTES, max_entries: int = MAX_ENTRIES) -> None:
        self._total_bytes = total_bytes
        self._max_entries = max_entries
        self._entries: OrderedDict[str, tuple[Representation, bytes]] = OrderedDict()
        self._bytes = 0

    @property
    def kept_bytes(self) -> int:
        """Bytes of all bodies that are kept."""
        return self._bytes

    def get(self, chosen: Representation) -> bytes:
        """The body of exactly this representation; empty when it is not kept."""
        entry = self._entries.get(chosen.key)
        return entry[1] if entry is not None and entry[0] is chosen else b""

    def read(self, chosen: Representation, body: bytes) -> None:
        """Note that all of a representation was read, or keep it where that was noted before."""
        if len(body) > SMALL_BYTES:
            return
        known = self._remove(chosen.key)
        kept = body if known is chosen else b""
        self._entries[chosen.key] = (chosen, kept)
        self._bytes += len(kept)
        while self._bytes > self._total_bytes or len(self._entries) > self._max_entries:
            self._remove(next(iter(self._entries)))

    def _remove(self, key: str) -> Representation | None:
        entry = self._entries.pop(key, None)
        if entry is None:
            return None
        self._bytes -= len(entry[1])
        return entry[0]

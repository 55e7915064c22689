"""What this process remembers of images, for less than a second, and what it is asking for."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from uuid import UUID

from chitram.delivery.ports import ReadImage, XCache

MAX_ENTRIES = 10_000

Found = tuple[ReadImage | None, XCache]


class Load:
    """Asking for one image, for all who ask for it at the same time.

    Attributes:
        fresh_until: monotonic time until which its result may answer new requests.
        task: ends with the result; None until it is started.
    """

    __slots__ = ("fresh_until", "task")

    def __init__(self, fresh_until: float) -> None:
        self.fresh_until = fresh_until
        self.task: asyncio.Task[Found] | None = None


class LocalEntries:
    """Entries and running loads of one process. Times are those of `time.monotonic`.

    All of it happens between two turns of the event loop, and so needs no lock.
    """

    def __init__(self, max_entries: int = MAX_ENTRIES) -> None:
        self._max_entries = max_entries
        # In the order in which they were loaded, which is nearly that in which they end.
        self._entries: OrderedDict[UUID, tuple[ReadImage | None, float]] = OrderedDict()
        self._loads: dict[UUID, Load] = {}
        self._forgotten = 0

    @property
    def forgotten(self) -> int:
        """How often something was forgotten before its time."""
        return self._forgotten

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, image_id: UUID, now: float) -> tuple[ReadImage | None, float] | None:
        """What is remembered, which may be that there is no such image, and until when."""
        entry = self._entries.get(image_id)
        if entry is None or entry[1] <= now:
            return None
        return entry

    def running(self, image_id: UUID, now: float) -> Load | None:
        """A load whose result a request of now may be answered with."""
        load = self._loads.get(image_id)
        return load if load is not None and load.fresh_until > now else None

    def begin(self, image_id: UUID, load: Load) -> None:
        """Let requests join a load from now on, in the place of an older one."""
        self._loads[image_id] = load

    def finish(self, image_id: UUID, load: Load, image: ReadImage | None) -> None:
        """Remember what a load has found, unless it was detached."""
        if self.abandon(image_id, load):
            self._remember(image_id, image, load.fresh_until)

    def remember(
        self, image_id: UUID, image: ReadImage | None, fresh_until: float, *, forgotten: int
    ) -> None:
        """Remember what was found without a load, unless something was forgotten since `forgotten`."""
        if self._forgotten == forgotten:
            self._remember(image_id, image, fresh_until)

    def _remember(self, image_id: UUID, image: ReadImage | None, fresh_until: float) -> None:
        self._entries[image_id] = (image, fresh_until)
        self._entries.move_to_end(image_id)
        if len(self._entries) > self._max_entries:
            self._entries.popitem(last=False)

    def abandon(self, image_id: UUID, load: Load) -> bool:
        """End a load without a result; false when it was detached before."""
        if self._loads.get(image_id) is not load:
            return False
        del self._loads[image_id]
        return True

    def drop(self, image_id: UUID) -> None:
        """Forget an image, and detach its load: it answers those who have joined, and no others."""
        self._forgotten += 1
        self._entries.pop(image_id, None)
        self._loads.pop(image_id, None)

    def clear(self) -> None:
        """Forget all images, and detach all loads."""
        self._forgotten += 1
        self._entries.clear()
        self._loads.clear()

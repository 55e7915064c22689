"""What making thumbnails and making optimised renditions share: proving, putting, recording."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from uuid import UUID

import msgspec

from chitram.images.domain.content import Received
from chitram.images.domain.image import Blob, BlobState
from chitram.images.domain.rendition import Rendition, RenditionSort
from chitram.images.ports import (
    BlobStore,
    DamageReports,
    ImageCaches,
    MadeRenditions,
    Recording,
    Rendered,
    Transactions,
)
from chitram.images.use_cases.changed_blob import MOST_IMAGES, show_change
from chitram.images.use_cases.copies import CopyRules
from chitram.images.use_cases.owing import kinds_of
from chitram.kernel.clock import Clock
from chitram.kernel.errors import ChitramError, CommitUncertain, DatabaseUnavailable, StorageUnavailable

# Each is lost to a move of the blob to another store, of which there are not many.
_ROUNDS = 3
# All puts of a round end within this and a second for each MiB, or fail.
_PUT_SECONDS = 15
_SLOWEST_BYTES_PER_SECOND = 1 << 20
# What is put has to be there so long after it was begun: enough to render and put most thumbnails.
_MAKING_SECONDS = 30


class RenditionCommand(msgspec.Struct, frozen=True):
    """The blob, and the outbox entry that this settles.

    `is_remake` when nobody waits for it: nor does anybody for what is owed after it.
    """

    entry_id: UUID
    blob_id: UUID
    is_remake: bool = False


class DamagedBlob(Exception):
    """A blob's object is missing, or not what was stored."""


class Making(msgspec.Struct, frozen=True):
    """Renditions that are being made of a blob.

    Attributes:
        clearings: outbox entries that remove what was put, if nothing else is heard.
        until: when all puts have to have ended, by `time.monotonic`.
    """

    blob: Blob
    clearings: Sequence[UUID]
    until: float


class RenditionKeeper:
    """Reads originals, and keeps what is made of them; safe against everything else at once.

    Nothing is put before a row is committed, under the lock of a blob that is live, that owes the
    removal of what a removed blob leaves in this store: some time later than any put of ours. It is
    struck off by the transaction that records the renditions, or that finds the blob gone after
    they were removed again. So nothing that was put is forgotten, wherever a process ends.
    """

    def __init__(
        self,
        transactions: Transactions,
        blobs: BlobStore,
        caches: ImageCaches,
        clock: Clock,
        damage: DamageReports,
        copies: CopyRules,
    ) -> None:
        self._transactions = transactions
        self._blobs = blobs
        self._caches = caches
        self._clock = clock
        self._damage = damage
        self._copies = copies

    async def begin(
        self, command: RenditionCommand, sort: RenditionSort, *, puts_within: float | None = _MAKING_SECONDS
    ) -> Making | None:
        """Begin to make what a blob has not, and owe the clearing of what is put.

        None when there is nothing to be made, and the entry is struck off: the blob is gone, or
        another run of this was first; a later release may even have made better ones.

        Args:
            command: says of which blob.
            sort: what is to be made.
            puts_within: seconds in which all puts end; None when nothing is going to be put yet.
        """
        until = time.monotonic() + (puts_within or 0)
        clear_after = None if puts_within is None else timedelta(seconds=2 * puts_within)
        begun = await self._transactions.begin_making(
            command.entry_id, command.blob_id, sort, clear_after=clear_after
        )
        if begun is None:
            return None
        return Making(begun.blob, [] if begun.clearing is None else [begun.clearing], until)

    async def render(
        self, making: Making, render: Callable[[Received], Awaitable[Sequence[Rendered]]]
    ) -> Sequence[Rendered]:
        """Make renditions of a blob's bytes once these are proved to be what was stored.

        Raises `DamagedBlob`, which is told to the operator, and `RenderingFailed`.
        """
        try:
            return await self._render(making.blob, render)
        except Exception:
            # Nothing was put; and if it cannot be struck off, it will find nothing.
            if making.clearings:
                with contextlib.suppress(ChitramError):
                    await self._strike_off(*making.clearings)
            raise

    async def _render(
        self, blob: Blob, render: Callable[[Received], Awaitable[Sequence[Rendered]]]
    ) -> Sequence[Rendered]:
        async with contextlib.AsyncExitStack() as stack:
            found: bytes | None = None
            with contextlib.suppress(LookupError):
                original = await stack.enter_async_context(self._blobs.fetch(blob.id, blob.shard))
                found = original.sha256
            if found == blob.sha256:
                return await render(original)
        await self._tell_damage(blob, found)
        raise DamagedBlob

    async def _tell_damage(self, blob: Blob, found: bytes | None) -> None:
        """Remember that a blob is damaged, unless it was moved or removed meanwhile."""
        async with self._transactions.begin() as transaction:
            locked = await transaction.blobs.lock(blob.id)
            if locked is None or locked.state is not BlobState.LIVE or locked.shard != blob.shard:
                raise StorageUnavailable("The image was moved or removed meanwhile.")
            await transaction.blobs.set_verified(blob.id, self._clock.now(), is_intact=False)
            await transaction.commit()
        self._damage.damaged(blob, found)

    async def keep(
        self,
        command: RenditionCommand,
        sort: RenditionSort,
        making: Making,
        rendered: Sequence[Rendered],
    ) -> None:
        """Put what was made of a blob, record it and strike the entry off."""
        made = {self._rendition(command.blob_id, each, sort.recipe): each.content for each in rendered}
        seconds = _PUT_SECONDS + sum(map(len, made.values())) / _SLOWEST_BYTES_PER_SECOND
        for _ in range(_ROUNDS):
            if made and (not making.clearings or making.until < time.monotonic() + seconds):
                again = await self.begin(command, sort, puts_within=max(seconds, _MAKING_SECONDS))
                if again is None:
                    return
                if again.blob.shard == making.blob.shard:
                    again = msgspec.structs.replace(again, clearings=[*making.clearings, *again.clearings])
                making = again
            if await self._try(command, sort, making, made, seconds) is not Recording.MOVED:
                return
            # What was put where the blob was goes with the copy that the move left.
            making = msgspec.structs.replace(making, clearings=[])
        raise StorageUnavailable("The image is being moved. Try again shortly.")

    async def _try(
        self,
        command: RenditionCommand,
        sort: RenditionSort,
        making: Making,
        made: Mapping[Rendition, bytes],
        seconds: float,
    ) -> Recording:
        shard = making.blob.shard
        try:
            async with asyncio.timeout(seconds):
                if made:
                    await self._blobs.put_renditions(shard, made)
        except TimeoutError:
            raise StorageUnavailable("The image store did not answer in time.") from None
        outcome = await self._record(command, sort, making, [*made])
        if outcome is Recording.GONE:
            await self._blobs.delete(command.blob_id, shard)
            await self._strike_off(command.entry_id, *making.clearings)
        return outcome

    async def _record(
        self,
        command: RenditionCommand,
        sort: RenditionSort,
        making: Making,
        made: Sequence[Rendition],
    ) -> Recording:
        """Make known what was put, in one transaction with all that follows from it."""
        try:
            recorded = await self._transactions.record_made(self._made(command, sort, making, made))
        except BaseException as error:
            if not _has_changed_nothing(error):
                # And of which images is not known either.
                await self._caches.invalidate_all()
            raise
        await show_change(self._caches, recorded.touched)
        return recorded.outcome

    def _made(
        self,
        command: RenditionCommand,
        sort: RenditionSort,
        making: Making,
        made: Sequence[Rendition],
    ) -> MadeRenditions:
        awaited, unawaited = kinds_of(RenditionSort.OPTIMISED)
        follows = unawaited if command.is_remake else awaited
        return MadeRenditions(
            blob_id=command.blob_id,
            shard=making.blob.shard,
            sort=sort,
            made=made,
            at=self._clock.now(),
            settled=[command.entry_id, *making.clearings],
            owed=follows if sort is RenditionSort.THUMBNAILS else None,
            same_as=(awaited, unawaited),
            most_images=MOST_IMAGES,
            # When no reader can know them any more.
            drop_after=self._copies.drop_after,
        )

    async def _strike_off(self, *entries: UUID) -> None:
        async with self._transactions.begin() as transaction:
            for entry_id in entries:
                await transaction.outbox.done(entry_id)
            await transaction.commit()

    def _rendition(self, blob_id: UUID, rendered: Rendered, recipe: int) -> Rendition:
        return Rendition(
            blob_id=blob_id,
            kind=rendered.kind,
            recipe=recipe,
            format=rendered.format,
            width=rendered.width,
            height=rendered.height,
            byte_size=len(rendered.content),
            sha256=hashlib.sha256(rendered.content).digest(),
            created_at=self._clock.now(),
        )


def _has_changed_nothing(error: BaseException) -> bool:
    """Whether it is certain of a commit that it was none."""
    return isinstance(error, DatabaseUnavailable) and not isinstance(error, CommitUncertain)

"""What making thumbnails and making optimised renditions share: proving, putting, recording."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from enum import Enum, auto
from uuid import UUID

import msgspec

from chitram.images.domain.content import Received
from chitram.images.domain.image import Blob, BlobState
from chitram.images.domain.keys import rendition_name
from chitram.images.domain.rendition import Processing, Rendition, RenditionSort
from chitram.images.domain.work import (
    BLOB_ID,
    CLEAR_RENDITIONS,
    DROP_RENDITIONS,
    NAMES,
    SHARD,
)
from chitram.images.ports import (
    BlobStore,
    DamageReports,
    ImageCaches,
    ImagesUnitOfWork,
    Rendered,
    Transactions,
)
from chitram.images.use_cases.changed_blob import Touched, show_change, touch_images
from chitram.images.use_cases.copies import CopyRules
from chitram.images.use_cases.owing import owe_renditions
from chitram.kernel.clock import Clock
from chitram.kernel.errors import StorageUnavailable

# Each is lost to a move of the blob to another store, of which there are not many.
_ROUNDS = 3
# All puts of a round end within this and a second for each MiB, or fail.
_PUT_SECONDS = 15
_SLOWEST_BYTES_PER_SECOND = 1 << 20


class RenditionCommand(msgspec.Struct, frozen=True):
    """The blob, and the outbox entry that this settles.

    `is_remake` when nobody waits for it: nor does anybody for what is owed after it.
    """

    entry_id: UUID
    blob_id: UUID
    is_remake: bool = False


class DamagedBlob(Exception):
    """A blob's object is missing, or not what was stored."""


class _Outcome(Enum):
    KEPT = auto()
    MOVED = auto()
    GONE = auto()


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

    async def live_blob(self, command: RenditionCommand) -> Blob | None:
        """The blob; None when it is gone or being deleted, and its entry struck off with it."""
        async with self._transactions.begin() as transaction:
            blob = await transaction.blobs.lock(command.blob_id)
            if blob is not None and blob.state is BlobState.LIVE:
                return blob
            await transaction.outbox.done(command.entry_id)
            await transaction.commit()
        return None

    async def strike_off(self, command: RenditionCommand) -> None:
        """There is nothing to be made."""
        await self._strike_off(command.entry_id, None)

    async def _strike_off(self, *entries: UUID | None) -> None:
        async with self._transactions.begin() as transaction:
            await _strike_off(transaction, *entries)
            await transaction.commit()

    async def render(
        self, blob: Blob, render: Callable[[Received], Awaitable[Sequence[Rendered]]]
    ) -> Sequence[Rendered]:
        """Make renditions of a blob's bytes once these are proved to be what was stored.

        Raises `DamagedBlob`, which is told to the operator, and `RenderingFailed`.
        """
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
        self, command: RenditionCommand, sort: RenditionSort, rendered: Sequence[Rendered]
    ) -> None:
        """Put what was made of a blob, record it and strike the entry off."""
        made = {self._rendition(command.blob_id, each, sort.recipe): each.content for each in rendered}
        for _ in range(_ROUNDS):
            if await self._try(command, sort, made) is not _Outcome.MOVED:
                return
        raise StorageUnavailable("The image is being moved. Try again shortly.")

    async def _try(
        self, command: RenditionCommand, sort: RenditionSort, made: Mapping[Rendition, bytes]
    ) -> _Outcome:
        seconds = _PUT_SECONDS + sum(map(len, made.values())) / _SLOWEST_BYTES_PER_SECOND
        begun = await self._begin(command, timedelta(seconds=2 * seconds) if made else None)
        if begun is None:
            return _Outcome.GONE
        clearing, shard = begun
        try:
            async with asyncio.timeout(seconds):
                await asyncio.gather(
                    *(self._blobs.put_rendition(each, shard, content) for each, content in made.items())
                )
        except TimeoutError:
            raise StorageUnavailable("The image store did not answer in time.") from None
        outcome = await self._record(command, sort, [*made], clearing, shard)
        if outcome is _Outcome.GONE:
            await self._blobs.delete(command.blob_id, shard)
            await self._strike_off(command.entry_id, clearing)
        return outcome

    async def _begin(
        self, command: RenditionCommand, clear_after: timedelta | None
    ) -> tuple[UUID | None, str] | None:
        """Owe the clearing of what is going to be put, if anything, and say where.

        None when the blob is gone, and its entry struck off.
        """
        async with self._transactions.begin() as transaction:
            locked = await transaction.blobs.lock(command.blob_id)
            if locked is None or locked.state is not BlobState.LIVE:
                await transaction.outbox.done(command.entry_id)
                await transaction.commit()
                return None
            if clear_after is None:
                return None, locked.shard
            payload = {BLOB_ID: str(locked.id), SHARD: locked.shard}
            clearing = await transaction.outbox.add(CLEAR_RENDITIONS, payload, delay=clear_after)
            await transaction.commit()
        return clearing, locked.shard

    async def _record(
        self,
        command: RenditionCommand,
        sort: RenditionSort,
        made: Sequence[Rendition],
        clearing: UUID | None,
        shard: str,
    ) -> _Outcome:
        """Make known what was put, in one transaction with all that follows from it."""
        touched: Touched = []
        try:
            async with self._transactions.begin() as transaction:
                locked = await transaction.blobs.lock(command.blob_id)
                if locked is None or locked.state is not BlobState.LIVE:
                    return _Outcome.GONE
                if locked.shard != shard:
                    return _Outcome.MOVED
                await self._change(transaction, command, locked, sort, made)
                await _strike_off(transaction, command.entry_id, clearing)
                touched = await touch_images(transaction, locked.id)
                await transaction.commit()
        finally:
            # Also after a commit whose answer was lost.
            await show_change(self._caches, touched)
        return _Outcome.KEPT

    async def _change(
        self,
        transaction: ImagesUnitOfWork,
        command: RenditionCommand,
        blob: Blob,
        sort: RenditionSort,
        made: Sequence[Rendition],
    ) -> None:
        await self._owe_drop(transaction, blob, sort, made)
        await transaction.renditions.replace(blob.id, sort, made)
        await transaction.blobs.set_recipe(blob.id, sort, sort.recipe)
        if made:
            await transaction.blobs.set_verified(blob.id, self._clock.now(), is_intact=True)
        if sort is RenditionSort.THUMBNAILS:
            await transaction.blobs.set_processing(blob.id, Processing.READY)
            if blob.optimised_recipe is None:
                await owe_renditions(
                    transaction, blob.id, RenditionSort.OPTIMISED, is_awaited=not command.is_remake
                )

    async def _owe_drop(
        self, transaction: ImagesUnitOfWork, blob: Blob, sort: RenditionSort, made: Sequence[Rendition]
    ) -> None:
        """Owe the removal of what these take the place of, once no reader can know it any more."""
        new = {rendition_name(each.kind, each.recipe) for each in made}
        old = {
            rendition_name(each.kind, each.recipe)
            for each in await transaction.renditions.of(blob.id)
            if each.kind in sort.kinds
        }
        if names := sorted(old - new):
            payload = {BLOB_ID: str(blob.id), SHARD: blob.shard, NAMES: " ".join(names)}
            await transaction.outbox.add(DROP_RENDITIONS, payload, delay=self._copies.drop_after)

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


async def _strike_off(transaction: ImagesUnitOfWork, *entries: UUID | None) -> None:
    for entry_id in entries:
        if entry_id is not None:
            await transaction.outbox.done(entry_id)

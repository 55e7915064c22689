"""Move every blob of one store to another."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import datetime
from uuid import UUID, uuid4

import msgspec

from chitram.images.domain.content import Slice, stored_chunks
from chitram.images.domain.image import Blob, BlobState
from chitram.images.domain.rendition import Rendition, RenditionSort
from chitram.images.domain.work import DROP_COPY
from chitram.images.ports import BlobCatalogue, BlobStore, Transactions
from chitram.images.use_cases.copies import CopyRules, copy_of, owe_drop
from chitram.images.use_cases.copy_renditions import copy_renditions
from chitram.images.use_cases.owing import lack_renditions
from chitram.kernel.clock import Clock
from chitram.kernel.errors import (
    Category,
    ChitramError,
    CommitUncertain,
    DatabaseUnavailable,
    StorageUnavailable,
)

# Enough to hide the latency of a remote store; each holds a file of the spool and no memory to speak of.
_AT_ONCE = 4
_ROUNDS = 5
_PAUSE_SECONDS = 1.0


class MoveCommand(msgspec.Struct, frozen=True):
    """Names of stores, as in STORAGE_URLS."""

    source: str
    target: str


class MoveRefused(ChitramError):
    """These stores cannot be moved between."""

    code = "MOVE_REFUSED"
    category = Category.INVALID
    default_message = "These stores cannot be moved between."


class MoveReport(msgspec.Struct):
    """What came of it.

    Attributes:
        moved: blobs that are in the target now.
        missing: blobs without an object in the source.
        corrupt: blobs whose object in the source has another SHA-256 than the row.
        waiting: blobs that were moved away from the target so lately that an old copy still goes there.
    """

    moved: int = 0
    missing: list[UUID] = []
    corrupt: list[UUID] = []
    waiting: list[UUID] = []

    def left(self) -> set[UUID]:
        """Blobs that stay where they are."""
        return {*self.missing, *self.corrupt, *self.waiting}


class Corrupt(Exception):
    """An object's SHA-256 is not that of its row."""


# The renditions that were to be copied, and of which sorts some are lost.
_Copied = tuple[frozenset[Rendition], set[RenditionSort]]
# Told of each blob that is done with, moved or not.
Progress = Callable[[Blob], None]


class MoveBlobs:
    """Run by an administrator, while the service runs, again after a kill, or twice at once.

    What is moved stands in the rows, a blob at a time: the object is copied and its copy read back
    before the row names the target. A move that ends early leaves copies that the next one writes
    again and reconcile takes for strays. The old object goes some time later, by the worker.

    Its renditions are copied before the row changes too, so that they are never missing. What of
    them is lost is made again. Direct uploads are not blobs yet: they stay where they began, until
    they expire.
    """

    def __init__(
        self,
        transactions: Transactions,
        catalogue: BlobCatalogue,
        blobs: BlobStore,
        clock: Clock,
        rules: CopyRules,
    ) -> None:
        self._transactions = transactions
        self._catalogue = catalogue
        self._blobs = blobs
        self._clock = clock
        self._rules = rules

    async def __call__(self, command: MoveCommand, progress: Progress = lambda _: None) -> MoveReport:
        """Move until nothing is left but what cannot be moved.

        Raises `MoveRefused`, `StorageUnavailable` naming the store, and `DatabaseUnavailable`; what
        was moved by then stays moved.
        """
        await self._check(command)
        report, moved_before = MoveReport(), -1
        # Once more, for what was committed behind us by processes that began it before.
        while report.moved > moved_before:
            moved_before = report.moved
            await self._pass(command, report, progress)
        return report

    async def _check(self, command: MoveCommand) -> None:
        source, target = command.source, command.target
        for name in (source, target):
            if name not in self._blobs.shards:
                raise MoveRefused(
                    f"There is no store {name!r} in CHITRAM_STORAGE_URLS, "
                    f"which has {', '.join(map(repr, self._blobs.shards))}."
                )
        if source == target:
            raise MoveRefused(f"{source!r} cannot be moved to itself.")
        if source == self._blobs.shard:
            raise MoveRefused(
                f"{source!r} is the first entry of CHITRAM_STORAGE_URLS, so new images would go on being "
                f"stored there and it would never be empty. Put {target!r} first and restart every process."
            )
        probe = uuid4()
        with _naming(target):
            await self._blobs.put(probe, target, [b"probe"], 5, "application/octet-stream")
        try:
            with _naming(source):
                same = await self._blobs.size(probe, source) is not None
        finally:
            with contextlib.suppress(StorageUnavailable):
                await self._blobs.delete(probe, target)
        if same:
            raise MoveRefused(f"{source!r} and {target!r} are two names of the same place.")

    async def _pass(self, command: MoveCommand, report: MoveReport, progress: Progress) -> None:
        blobs = self._catalogue.held_by(command.source)
        taking, left = asyncio.Lock(), report.left()

        async def work() -> None:
            while (blob := await _next(blobs, taking)) is not None:
                if blob.id not in left:
                    await self._move(blob, command, report)
                    progress(blob)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(_AT_ONCE):
                    group.create_task(work())
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None

    async def _move(self, blob: Blob, command: MoveCommand, report: MoveReport) -> None:
        """Move one blob, or find out that it cannot or need not be moved."""
        for round_number in range(1, _ROUNDS + 1):
            try:
                if await self._try(blob, command, report):
                    return
            except CommitUncertain:
                continue  # the next look at the row tells
            except DatabaseUnavailable:
                # A move of hours outlives a restart of the database.
                if round_number == _ROUNDS:
                    raise
                await asyncio.sleep(_PAUSE_SECONDS)
        raise StorageUnavailable(
            f"Copying the blob {blob.id} to {command.target!r} took too long, {_ROUNDS} times. "
            "Nothing is lost: run the same command again."
        )

    async def _try(self, blob: Blob, command: MoveCommand, report: MoveReport) -> bool:
        """Copy and commit once; False when it has to be done again."""
        begun = self._clock.now()
        if not await self._is_to_move(blob, command, report):
            return True
        try:
            await self._copy(blob, command)
            copied = await self._copy_renditions(blob, command)
        except (LookupError, Corrupt) as failure:
            # Unless it went away by right, it has to be told.
            if await self._is_to_move(blob, command, report):
                (report.corrupt if isinstance(failure, Corrupt) else report.missing).append(blob.id)
            return True
        moved = await self._commit(blob, command, begun, copied)
        report.moved += moved
        return moved

    async def _is_to_move(self, blob: Blob, command: MoveCommand, report: MoveReport) -> bool:
        """Look at the row, which another process or a lost answer may have changed."""
        async with self._transactions.begin() as transaction:
            locked = await transaction.blobs.lock(blob.id)
            if locked is None or locked.state is not BlobState.LIVE:
                return False
            if locked.shard != command.source:
                report.moved += locked.shard == command.target
                return False
            waits = await transaction.outbox.owes(copy_of(blob.id, command.target), DROP_COPY)
        if waits:
            report.waiting.append(blob.id)
        return not waits

    async def _copy(self, blob: Blob, command: MoveCommand) -> None:
        """Copy a blob's object and prove the copy by reading it. Raises `LookupError`, `Corrupt`."""
        async with contextlib.AsyncExitStack() as stack:
            with _naming(command.source):
                received = await stack.enter_async_context(self._blobs.fetch(blob.id, command.source))
            if received.sha256 != blob.sha256:
                raise Corrupt
            with _naming(command.target):
                chunks = stored_chunks(received, (Slice(0, received.size),))
                await self._blobs.put(blob.id, command.target, chunks, received.size, blob.format.media_type)
                if await self._blobs.sha256(blob.id, command.target) != blob.sha256:
                    raise StorageUnavailable(f"It does not give back what was put for the blob {blob.id}.")

    async def _copy_renditions(self, blob: Blob, command: MoveCommand) -> _Copied:
        async with self._transactions.begin() as transaction:
            renditions = frozenset(await transaction.renditions.of(blob.id))
        with _naming(f"{command.source} or {command.target}"):
            lost = await copy_renditions(self._blobs, renditions, command.source, command.target)
        return renditions, lost

    async def _commit(self, blob: Blob, command: MoveCommand, begun: datetime, copied: _Copied) -> bool:
        """Let the row name the target; False when the copy is worth nothing any more."""
        async with self._transactions.begin() as transaction:
            locked = await transaction.blobs.lock(blob.id)
            gone = locked is None or (locked.state is BlobState.DELETING and locked.shard != command.target)
            if (
                locked is not None
                and locked.state is BlobState.LIVE
                and locked.shard == command.source
                and self._clock.now() - begun <= self._rules.longest_copy
                and not await transaction.outbox.owes(copy_of(blob.id, command.target), DROP_COPY)
                # Some may have been made while others were copied.
                and copied[0] == frozenset(await transaction.renditions.of(blob.id))
            ):
                await transaction.blobs.place(blob.id, command.target)
                await owe_drop(transaction, blob.id, command.source, self._rules)
                for sort in copied[1]:
                    await lack_renditions(transaction, blob.id, sort)
                await transaction.commit()
                return True
        if gone:
            with contextlib.suppress(StorageUnavailable):
                await self._blobs.delete(blob.id, command.target)
        return False


async def _next(blobs: AsyncIterator[Blob], taking: asyncio.Lock) -> Blob | None:
    async with taking:
        return await anext(blobs, None)


@contextlib.contextmanager
def _naming(shard: str) -> Iterator[None]:
    """Say which store is unavailable, and that nothing is lost."""
    try:
        yield
    except StorageUnavailable as error:
        raise StorageUnavailable(
            f"The store {shard!r}: {error.message} Nothing is lost: run the same command again."
        ) from error

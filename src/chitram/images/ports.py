"""What the images module needs from outside."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import Protocol
from uuid import UUID

import msgspec

from chitram.images.domain.content import Inspection, Received
from chitram.images.domain.idempotency import IdempotencyKey, KeyRecord
from chitram.images.domain.image import Blob, Image
from chitram.images.domain.rendition import (
    Processing,
    Rendition,
    RenditionFormat,
    RenditionKind,
    RenditionSort,
)
from chitram.images.domain.upload import Upload
from chitram.kernel.uow import UnitOfWork


class Inspector(Protocol):
    """Decides what an upload is, proves it whole and says what of it to store.

    Raises `InvalidFileFormat`, `ImageTooLarge`, `CorruptImage`, `UploadCapacityExceeded` when no
    decoder is free in time, and `StorageUnavailable` when the spool cannot be read.
    """

    async def inspect(self, received: Received) -> Inspection: ...


class Rendered(msgspec.Struct, frozen=True, kw_only=True):
    """A rendition that was just made: sides in pixels, and all of its bytes."""

    kind: RenditionKind
    format: RenditionFormat
    width: int
    height: int
    content: bytes


class RenderingFailed(Exception):
    """A blob's picture cannot be rendered; trying again may help, but need not."""


class Renderer(Protocol):
    """Makes renditions of stored blobs, in limited child processes.

    Raises `RenderingFailed`, `RendererUnavailable` when it is not the picture that is at fault, and
    `StorageUnavailable` when the spool cannot be read.
    """

    async def thumbnails(self, original: Received) -> Sequence[Rendered]:
        """The three thumbnails, from one decode."""
        ...

    async def optimised(self, original: Received) -> Sequence[Rendered]:
        """What of `OPTIMISED` and `OPTIMISED_WEBP` is worth its bytes; perhaps nothing."""
        ...


class BegunMaking(msgspec.Struct, frozen=True):
    """A blob of which renditions are going to be made, and the outbox entry that clears them, if owed."""

    blob: Blob
    clearing: UUID | None


class MadeRenditions(msgspec.Struct, frozen=True, kw_only=True):
    """Renditions of one sort that were put.

    Attributes:
        shard: where they were put.
        made: all that the blob has of this sort from now on, by today's recipe; perhaps none.
        at: when the bytes were read that they were made of, and found to be what was stored.
        settled: outbox entries that are struck off.
        owed: kind of work that follows where optimised renditions were never tried, unless one of
            `same_as` is owed for this blob already.
        most_images: so many of the images that show the blob get a new version.
        drop_after: from now, when what these take the place of is to be removed.
    """

    blob_id: UUID
    shard: str
    sort: RenditionSort
    made: Sequence[Rendition]
    at: datetime
    settled: Sequence[UUID]
    owed: str | None
    same_as: Sequence[str]
    most_images: int
    drop_after: timedelta


class Recording(Enum):
    """What came of recording renditions. Nothing was changed where the blob is somewhere else, or gone."""

    RECORDED = auto()
    MOVED = auto()
    GONE = auto()


class Recorded(msgspec.Struct, frozen=True):
    """What recording renditions has changed.

    Attributes:
        touched: ids and versions of images that have a new one.
    """

    outcome: Recording
    touched: Sequence[tuple[UUID, int]] = ()


class StoredObject(msgspec.Struct, frozen=True):
    """An object that a listing found under a blob's id: size in bytes, time of its last change.

    `rendition` is the name of what it is a rendition by; None for the blob's own bytes.
    """

    blob_id: UUID
    shard: str
    size: int
    modified: datetime
    rendition: str | None = None


class QuarantinedObject(msgspec.Struct, frozen=True):
    """An object in quarantine: size in bytes, time of its last change."""

    upload_id: UUID
    size: int
    modified: datetime


class BlobStore(Protocol):
    """Keeps the bytes of blobs. Every method raises `StorageUnavailable`."""

    @property
    def shard(self) -> str:
        """Name of the store that new blobs go to."""
        ...

    @property
    def shards(self) -> Sequence[str]:
        """Names of every store, that for new blobs first."""
        ...

    async def put(
        self, blob_id: UUID, shard: str, chunks: Iterable[bytes], size: int, media_type: str
    ) -> None:
        """Store a blob's bytes; durable once it returns, invisible when it fails."""
        ...

    async def size(self, blob_id: UUID, shard: str) -> int | None:
        """Length of a blob's object in bytes, or None when it is missing."""
        ...

    async def sha256(self, blob_id: UUID, shard: str) -> bytes | None:
        """Read a blob's object and hash it, or None when it is missing."""
        ...

    def fetch(self, blob_id: UUID, shard: str) -> AbstractAsyncContextManager[Received]:
        """Have a blob's object as a file and hash it; raises `LookupError` when it is missing.

        Of a local store it is the object itself, of others a copy in the spool.
        """
        ...

    async def put_rendition(self, rendition: Rendition, shard: str, content: bytes) -> None:
        """Store the bytes of a rendition, in the place of any that were there."""
        ...

    async def put_renditions(self, shard: str, made: Mapping[Rendition, bytes]) -> None:
        """Store the bytes of renditions of one blob, in the place of any that were there.

        All are durable once it returns; when it fails, any of them may be there.
        """
        ...

    async def read_rendition(self, rendition: Rendition, shard: str) -> bytes | None:
        """All bytes of a rendition, or None when it is missing."""
        ...

    async def renditions(self, blob_id: UUID, shard: str) -> Mapping[str, int]:
        """Names and sizes of all objects that are renditions of a blob, of whatever recipe."""
        ...

    async def delete_rendition(self, blob_id: UUID, name: str, shard: str) -> None:
        """Remove a rendition by its name; removing what is not there is not an error."""
        ...

    async def delete(self, blob_id: UUID, shard: str) -> None:
        """Remove everything kept for a blob: its renditions, whatever they are, and its bytes.

        Removing what is not there is not an error.
        """
        ...

    def list(self) -> AsyncIterator[StoredObject]:
        """Yield every object of every shard whose name is a blob's or a rendition's."""
        ...

    async def remove_unfinished(self, before: datetime) -> int:
        """Remove remains of writes that began before `before` and never ended; say how many."""
        ...


class Quarantine(Protocol):
    """Keeps what clients put and nobody has checked. Every method raises `StorageUnavailable`."""

    @property
    def shard(self) -> str:
        """Name of the store that new uploads go to."""
        ...

    @property
    def shards(self) -> Collection[str]:
        """Names of all stores that are configured."""
        ...

    async def address(self, upload_id: UUID, shard: str, seconds: int) -> str | None:
        """Where the client itself may put its bytes for `seconds`.

        None when they have to come through this application, which is for stores without
        addresses of their own. The store is asked whether it can be used now.
        """
        ...

    async def put(self, upload_id: UUID, shard: str, received: Received) -> None:
        """Keep bytes that came through this application, in the place of any that were there."""
        ...

    def fetch(
        self, upload_id: UUID, shard: str, *, limit: int, seconds: float
    ) -> AbstractAsyncContextManager[Received]:
        """Read an upload's bytes once, to the spool, within `seconds`.

        Raises `UploadNotReceived` when there are none, and `FileTooLarge` without reading when
        they are more than `limit`.
        """
        ...

    async def delete(self, upload_id: UUID, shard: str) -> None:
        """Remove an upload's bytes; removing what is not there is not an error."""
        ...

    def list(self, shard: str) -> AsyncIterator[QuarantinedObject]:
        """Yield what lies in the quarantine of a store under an upload's id."""
        ...


class LiveBlobExists(Exception):
    """Another transaction made a live blob of the same content first."""


class BlobRepository(Protocol):
    """Blobs inside one transaction."""

    async def get(self, blob_id: UUID) -> Blob | None:
        """A blob, live or being deleted, unlocked."""
        ...

    async def lock(self, blob_id: UUID) -> Blob | None:
        """Lock a blob's row until the transaction ends, or None when it is gone."""
        ...

    async def add(self, blob: Blob, *, newer_than: timedelta) -> None:
        """Insert a new generation.

        Raises `LiveBlobExists` when the content has a live blob already, and `StaleBlob` when the
        blob's id is older than `newer_than` by the database's clock: reconcile may already have
        taken its object for abandoned.
        """
        ...

    async def mark_deleting(self, blob_id: UUID) -> None: ...

    async def place(self, blob_id: UUID, shard: str) -> None:
        """Say in which store a blob's object is now."""
        ...

    async def remove(self, blob_id: UUID) -> None:
        """Delete the row of a blob whose objects are gone."""
        ...

    async def without_dimensions(self, after: UUID, limit: int) -> Sequence[Blob]:
        """Live blobs without width and height, in order of id from `after` on."""
        ...

    async def set_dimensions(self, blob_id: UUID, width: int, height: int) -> None: ...

    async def set_verified(self, blob_id: UUID, at: datetime, *, is_intact: bool) -> None:
        """Say when a blob's object was last read, and since when it is known to be damaged."""
        ...

    async def set_processing(self, blob_id: UUID, processing: Processing) -> None:
        """Say how far a blob's thumbnails are."""
        ...

    async def set_recipe(self, blob_id: UUID, sort: RenditionSort, recipe: int | None) -> None:
        """Say by which recipe renditions of a sort were tried last; None has them made again."""
        ...

    async def outdated(self, after: UUID, limit: int) -> Sequence[Blob]:
        """Live blobs of which not all was tried by the recipes of today, in order of id beyond `after`."""
        ...

    async def least_verified(self, shards: Collection[str], limit: int) -> Sequence[Blob]:
        """Live blobs in some stores whose bytes were never verified, or longest ago, in this order."""
        ...


class StaleBlob(Exception):
    """A blob's id is too old for its object to be sure to exist still."""


class ImageRepository(Protocol):
    """Images inside one transaction."""

    async def get(self, image_id: UUID) -> Image | None: ...

    async def lock(self, image_id: UUID) -> Image | None:
        """Lock an image's row until the transaction ends, or None when it is gone."""
        ...

    async def add(self, image: Image) -> None: ...

    async def update(self, image: Image) -> None:
        """Write name, visibility, version and time of an image whose row is locked."""
        ...

    async def remove(self, image_id: UUID) -> bool:
        """Delete a row; False when another transaction was first."""
        ...

    async def is_shown(self, blob_id: UUID) -> bool:
        """Whether any image shows a blob; exact while its row is locked."""
        ...

    async def touch(self, blob_id: UUID, limit: int) -> Sequence[tuple[UUID, int]]:
        """Raise the version of images that show a blob, `limit` at most; their ids and versions now."""
        ...

    async def expired(self, now: datetime, limit: int) -> Sequence[UUID]:
        """Ids of images whose time has come."""
        ...


class UploadRepository(Protocol):
    """Direct uploads inside one transaction."""

    async def get(self, upload_id: UUID) -> Upload | None: ...

    async def add(self, upload: Upload) -> None: ...

    async def complete(self, upload_id: UUID, image_id: UUID) -> bool:
        """Say that an upload became an image; False when it already had, or is gone.

        Of two transactions that try at once, the second waits for the first.
        """
        ...

    async def ended(self, before: datetime, after: UUID, limit: int) -> Sequence[Upload]:
        """Uploads, completed or not, whose time was over at `before`, in order of id beyond `after`."""
        ...

    async def known(self, upload_ids: Sequence[UUID]) -> set[UUID]:
        """Those of `upload_ids` that have a row."""
        ...

    async def remove(self, upload_id: UUID) -> None: ...


class KeyRepository(Protocol):
    """Idempotency keys inside one transaction, by the database's clock."""

    async def claim(
        self, key_hash: bytes, request_digest: bytes, lease: UUID, *, lease_for: timedelta, life: timedelta
    ) -> bool:
        """Work under a key; False when it is settled, or another's lease lasts.

        Of two transactions that try at once, the second waits for the first.
        """
        ...

    async def get(self, key_hash: bytes) -> KeyRecord | None: ...

    async def renew(self, key_hash: bytes, lease: UUID, *, lease_for: timedelta) -> None: ...

    async def settle(
        self, key_hash: bytes, lease: UUID, image_id: UUID, sealed_answer: bytes, *, life: timedelta
    ) -> bool:
        """Say what came of the work; False when another has the key by now."""
        ...

    async def free(self, key_hash: bytes, lease: UUID) -> None:
        """Let another work under a key, unless it is settled."""
        ...

    async def forget(self, image_id: UUID) -> None:
        """Forget the key that an image was made under, if any."""
        ...

    async def forget_expired(self, limit: int) -> int:
        """Forget keys whose time is over; say how many."""
        ...


class AnswerSealer(Protocol):
    """Encrypts answers so that whoever has the idempotency key, and nobody else, can read them."""

    def seal(self, answer: bytes, key: IdempotencyKey) -> bytes: ...

    def open(self, sealed: bytes, key: IdempotencyKey) -> bytes: ...


class RenditionRepository(Protocol):
    """Renditions inside one transaction."""

    async def of(self, blob_id: UUID) -> Sequence[Rendition]:
        """All renditions of a blob."""
        ...


class ImagesUnitOfWork(UnitOfWork, Protocol):
    """A transaction over images, blobs, renditions, direct uploads, idempotency keys and the outbox."""

    @property
    def images(self) -> ImageRepository: ...

    @property
    def blobs(self) -> BlobRepository: ...

    @property
    def renditions(self) -> RenditionRepository: ...

    @property
    def uploads(self) -> UploadRepository: ...

    @property
    def keys(self) -> KeyRepository: ...


class Transactions(Protocol):
    """Transactions on the primary: begins them, or does those that are most frequent at once."""

    def begin(self) -> ImagesUnitOfWork: ...

    async def find_live(self, sha256: bytes) -> Blob | None:
        """The live generation of a content, as committed now; raises `DatabaseUnavailable`."""
        ...

    async def add_first(self, blob: Blob, image: Image, *, newer_than: timedelta) -> None:
        """Commit a new generation, an image over it, and that its thumbnails are owed.

        Raises what `BlobRepository.add` raises, and `DatabaseUnavailable` or `CommitUncertain` as
        a unit of work does.
        """
        ...

    async def begin_making(
        self, entry_id: UUID, blob_id: UUID, sort: RenditionSort, *, clear_after: timedelta | None
    ) -> BegunMaking | None:
        """Under the lock of a live blob owe the clearing of what is going to be put for it.

        It is due `clear_after` from now; nothing is cleared when that is None. None is returned when
        there is nothing to be made: the blob is gone or being deleted, or was made by today's recipe
        or a later one. Then the entry is struck off instead. Errors are those of `add_first`'s commit.
        """
        ...

    async def record_made(self, made: MadeRenditions) -> Recorded:
        """Under the lock of a live blob make known what was put for it, and commit all that follows.

        Errors are those of `add_first`'s commit.
        """
        ...


class ImageCaches(Protocol):
    """Every copy of an image's metadata that readers may be answered from."""

    async def invalidate(self, image_id: UUID, oldest: int) -> bool:
        """Make every copy unreadable that is older than version `oldest`; after the commit.

        When it returns, no request that this process has yet to receive is answered from one; in
        other processes the same holds a second later. Never raises: false when no store of copies
        could be reached in time, so that others may be answered from theirs until the outbox is
        worked off. `oldest` may be `GONE`; with `UNKNOWN` nothing is promised.
        """
        ...

    async def invalidate_all(self) -> bool:
        """Do the same for every image, whatever its version; for changes of many at once."""
        ...


class DamageReports(Protocol):
    """Tells the operator of a blob whose stored bytes are not what was stored."""

    def damaged(self, blob: Blob, found: bytes | None) -> None:
        """Report that `found` is the SHA-256 of its object, None when that is missing."""
        ...


class BlobCatalogue(Protocol):
    """Which blobs the rows know and where, read on the primary; for administrators."""

    async def known(self, blob_ids: Sequence[UUID]) -> Mapping[UUID, str]:
        """Those of `blob_ids` that have a row, live or being deleted, and the shards these name."""
        ...

    async def renditions(self, blob_ids: Sequence[UUID]) -> Mapping[UUID, Mapping[str, int]]:
        """Names of the renditions that rows of these blobs know, and the sizes of their objects."""
        ...

    async def is_live(self, blob_id: UUID) -> bool:
        """Whether a blob is live now."""
        ...

    def live(self) -> AsyncIterator[Blob]:
        """Every live blob, in order of id."""
        ...

    def held_by(self, shard: str) -> AsyncIterator[Blob]:
        """Every live blob of one shard, in order of id."""
        ...

    async def count_held_by(self, shard: str) -> int:
        """How many live blobs a shard has, counted page by page."""
        ...

    async def shards(self) -> Mapping[str, int]:
        """How many blobs and open uploads each shard has that a row names, counted up to 1000."""
        ...

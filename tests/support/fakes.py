"""In-memory stand-ins for the ports, proved equal to the real ones by tests/contract."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from tempfile import TemporaryFile
from types import TracebackType
from typing import Any, NamedTuple, Self
from uuid import UUID

from chitram.accounts.domain.api_key import ApiKey
from chitram.accounts.domain.errors import InvalidToken, QuotaExceeded
from chitram.accounts.domain.principal import Principal
from chitram.accounts.domain.session import Session
from chitram.accounts.domain.user import Email, User
from chitram.images.domain.content import Inspection, Received, Slice
from chitram.images.domain.idempotency import KeyRecord
from chitram.images.domain.image import Blob, BlobState, Image, ImageFormat
from chitram.images.domain.keys import rendition_name
from chitram.images.domain.rendition import Processing, Rendition, RenditionKind, RenditionSort
from chitram.images.domain.upload import Upload
from chitram.images.domain.work import (
    BLOB_ID,
    CLEAR_RENDITIONS,
    DROP_RENDITIONS,
    MAKE_RENDITIONS,
    NAMES,
    SHARD,
)
from chitram.images.ports import (
    BegunMaking,
    LiveBlobExists,
    MadeRenditions,
    Recorded,
    Recording,
    StaleBlob,
    StoredObject,
)
from chitram.images.use_cases.copies import CopyRules
from chitram.kernel.errors import CommitUncertain
from chitram.kernel.ids import id_time, new_id
from chitram.kernel.uow import UnitOfWork

COPIES = CopyRules(drop_after=timedelta(minutes=10), longest_copy=timedelta(minutes=5))


class FakeClock:
    """A clock that goes only when told to."""

    def __init__(self) -> None:
        self.time = datetime.now(UTC)

    def now(self) -> datetime:
        return self.time

    def advance(self, **by: float) -> None:
        self.time += timedelta(**by)


class AuditLine(NamedTuple):
    """What an administrator did."""

    actor_id: UUID | None
    action: str
    subject: str
    details: dict[str, str | int | bool | None]


@dataclass(frozen=True)
class HeldRow:
    """An idempotency key."""

    record: KeyRecord
    lease: UUID
    leased_until: datetime
    expires_at: datetime
    image_id: UUID | None = None


@dataclass
class Tables:
    """What a database holds."""

    images: dict[UUID, Image] = field(default_factory=dict)
    blobs: dict[UUID, Blob] = field(default_factory=dict)
    uploads: dict[UUID, Upload] = field(default_factory=dict)
    keys: dict[bytes, HeldRow] = field(default_factory=dict)
    outbox: dict[UUID, tuple[str, dict[str, str]]] = field(default_factory=dict)
    # By blob: when it was verified, and since when it is known to be damaged.
    verified: dict[UUID, tuple[datetime, datetime | None]] = field(default_factory=dict)
    # By blob and kind.
    renditions: dict[tuple[UUID, RenditionKind], Rendition] = field(default_factory=dict)
    users: dict[UUID, User] = field(default_factory=dict)
    audit: list[AuditLine] = field(default_factory=list)
    sessions: dict[UUID, Session] = field(default_factory=dict)
    # By hash: the session, and when the token was used.
    refresh_tokens: dict[bytes, tuple[UUID, datetime | None]] = field(default_factory=dict)
    api_keys: dict[UUID, ApiKey] = field(default_factory=dict)

    def snapshot(self) -> Tables:
        return Tables(**{name: copy(table) for name, table in vars(self).items()})


class FakeTransactions:
    """Transactions over tables in memory; one at a time, which is all that unit tests need.

    `commit_error` is raised instead of committing, `lose_answer` after committing.
    """

    def __init__(self) -> None:
        self.tables = Tables()
        self.commits = 0
        self.begun = 0
        self.commit_error: Exception | None = None
        self.lose_answer = False

    def begin(self) -> FakeUnitOfWork:
        self.begun += 1
        return FakeUnitOfWork(self)

    async def find_live(self, sha256: bytes) -> Blob | None:
        async with self.begin() as transaction:
            return await transaction.blobs.find_live(sha256)

    async def add_first(self, blob: Blob, image: Image, *, newer_than: timedelta) -> None:
        async with self.begin() as transaction:
            await transaction.blobs.add(blob, newer_than=newer_than)
            await transaction.images.add(image)
            await transaction.outbox.add(MAKE_RENDITIONS, {BLOB_ID: str(blob.id)})
            await transaction.commit()

    async def begin_making(
        self, entry_id: UUID, blob_id: UUID, sort: RenditionSort, *, clear_after: timedelta | None
    ) -> BegunMaking | None:
        async with self.begin() as transaction:
            begun = await transaction.renditions.begin(entry_id, blob_id, sort, clear_after=clear_after)
            await transaction.commit()
        return begun

    async def record_made(self, made: MadeRenditions) -> Recorded:
        async with self.begin() as transaction:
            recorded = await transaction.renditions.record(made)
            await transaction.commit()
        return recorded


class FakeUnitOfWork:
    def __init__(self, database: FakeTransactions) -> None:
        self._database = database
        self.tables = database.tables.snapshot()
        self.images = FakeImages(self.tables)
        self.blobs = FakeBlobs(self.tables)
        self.renditions = FakeRenditions(self.tables)
        self.uploads = FakeUploads(self.tables)
        self.keys = FakeKeys(self.tables)
        self.outbox = FakeOutbox(self.tables)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        pass

    async def commit(self) -> None:
        if self._database.commit_error:
            raise self._database.commit_error
        self._database.tables = self.tables
        self._database.commits += 1
        if self._database.lose_answer:
            raise CommitUncertain


class FakeBlobs:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def find_live(self, sha256: bytes) -> Blob | None:
        for blob in self._tables.blobs.values():
            if blob.sha256 == sha256 and blob.state is BlobState.LIVE:
                return blob
        return None

    async def get(self, blob_id: UUID) -> Blob | None:
        return self._tables.blobs.get(blob_id)

    async def lock(self, blob_id: UUID) -> Blob | None:
        return self._tables.blobs.get(blob_id)

    async def add(self, blob: Blob, *, newer_than: timedelta) -> None:
        if datetime.now(UTC) - id_time(blob.id) > newer_than:
            raise StaleBlob
        if await self.find_live(blob.sha256):
            raise LiveBlobExists
        self._tables.blobs[blob.id] = blob

    async def mark_deleting(self, blob_id: UUID) -> None:
        self._tables.blobs[blob_id] = replace(self._tables.blobs[blob_id], state=BlobState.DELETING)

    async def place(self, blob_id: UUID, shard: str) -> None:
        self._tables.blobs[blob_id] = replace(self._tables.blobs[blob_id], shard=shard)

    async def remove(self, blob_id: UUID) -> None:
        self._tables.blobs.pop(blob_id, None)
        for key in [key for key in self._tables.renditions if key[0] == blob_id]:
            del self._tables.renditions[key]

    async def without_dimensions(self, after: UUID, limit: int) -> Sequence[Blob]:
        found = [
            blob
            for blob in sorted(self._tables.blobs.values(), key=lambda blob: blob.id)
            if blob.width is None and blob.state is BlobState.LIVE and blob.id > after
        ]
        return found[:limit]

    async def set_dimensions(self, blob_id: UUID, width: int, height: int) -> None:
        self._tables.blobs[blob_id] = replace(self._tables.blobs[blob_id], width=width, height=height)

    async def set_verified(self, blob_id: UUID, at: datetime, *, is_intact: bool) -> None:
        _, damaged_at = self._tables.verified.get(blob_id, (at, None))
        self._tables.verified[blob_id] = (at, None if is_intact else damaged_at or at)
        self._tables.blobs[blob_id] = replace(self._tables.blobs[blob_id], is_damaged=not is_intact)

    async def set_processing(self, blob_id: UUID, processing: Processing) -> None:
        self._tables.blobs[blob_id] = replace(self._tables.blobs[blob_id], processing=processing)

    async def set_recipe(self, blob_id: UUID, sort: RenditionSort, recipe: int | None) -> None:
        changed: dict[str, Any] = {f"{sort.value}_recipe": recipe}
        self._tables.blobs[blob_id] = replace(self._tables.blobs[blob_id], **changed)

    async def outdated(self, after: UUID, limit: int) -> Sequence[Blob]:
        found = [
            blob
            for blob in sorted(self._tables.blobs.values(), key=lambda blob: blob.id)
            if blob.state is BlobState.LIVE
            and blob.id > after
            and any((getattr(blob, f"{sort.value}_recipe") or 0) < sort.recipe for sort in RenditionSort)
        ]
        return found[:limit]

    async def least_verified(self, shards: Collection[str], limit: int) -> Sequence[Blob]:
        never = (datetime.min.replace(tzinfo=UTC), None)
        live = [
            blob
            for blob in self._tables.blobs.values()
            if blob.state is BlobState.LIVE and blob.shard in shards
        ]
        live.sort(key=lambda blob: (self._tables.verified.get(blob.id, never)[0], blob.id))
        return live[:limit]


class FakeImages:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def get(self, image_id: UUID) -> Image | None:
        return self._tables.images.get(image_id)

    async def lock(self, image_id: UUID) -> Image | None:
        return self._tables.images.get(image_id)

    async def add(self, image: Image) -> None:
        self._tables.images[image.id] = image

    async def update(self, image: Image) -> None:
        self._tables.images[image.id] = image

    async def remove(self, image_id: UUID) -> bool:
        return self._tables.images.pop(image_id, None) is not None

    async def is_shown(self, blob_id: UUID) -> bool:
        return any(image.blob_id == blob_id for image in self._tables.images.values())

    async def touch(self, blob_id: UUID, limit: int) -> Sequence[tuple[UUID, int]]:
        shown = sorted(self._tables.images.values(), key=lambda image: image.id)
        touched = [image for image in shown if image.blob_id == blob_id][:limit]
        for image in touched:
            self._tables.images[image.id] = replace(image, version=image.version + 1)
        return [(image.id, image.version + 1) for image in touched]

    async def expired(self, now: datetime, limit: int) -> Sequence[UUID]:
        due = [
            image
            for image in self._tables.images.values()
            if image.expires_at is not None and image.expires_at <= now
        ]
        return [image.id for image in sorted(due, key=lambda image: image.expires_at or now)][:limit]


class FakeRenditions:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def of(self, blob_id: UUID) -> Sequence[Rendition]:
        return [each for each in self._tables.renditions.values() if each.blob_id == blob_id]

    async def begin(
        self, entry_id: UUID, blob_id: UUID, sort: RenditionSort, *, clear_after: timedelta | None
    ) -> BegunMaking | None:
        blob = self._tables.blobs.get(blob_id)
        if blob is None or blob.state is not BlobState.LIVE or _is_made(blob, sort):
            self._tables.outbox.pop(entry_id, None)
            return None
        if clear_after is None:
            return BegunMaking(blob, None)
        payload = {BLOB_ID: str(blob_id), SHARD: blob.shard}
        return BegunMaking(blob, await FakeOutbox(self._tables).add(CLEAR_RENDITIONS, payload))

    async def record(self, made: MadeRenditions) -> Recorded:
        tables, outbox, blobs = self._tables, FakeOutbox(self._tables), FakeBlobs(self._tables)
        blob = tables.blobs.get(made.blob_id)
        if blob is None or blob.state is not BlobState.LIVE:
            return Recorded(Recording.GONE)
        if blob.shard != made.shard:
            return Recorded(Recording.MOVED)
        old = [tables.renditions.pop((made.blob_id, kind), None) for kind in made.sort.kinds]
        tables.renditions |= {(made.blob_id, each.kind): each for each in made.made}
        await blobs.set_recipe(made.blob_id, made.sort, made.sort.recipe)
        if made.made:
            await blobs.set_verified(made.blob_id, made.at, is_intact=True)
        if made.sort is RenditionSort.THUMBNAILS:
            await blobs.set_processing(made.blob_id, Processing.READY)
        for entry_id in made.settled:
            await outbox.done(entry_id)
        payload = {BLOB_ID: str(made.blob_id)}
        follows = made.owed if blob.optimised_recipe is None else None
        if follows and not await outbox.owes(payload, *made.same_as):
            await outbox.add(follows, payload)
        names = {rendition_name(each.kind, each.recipe) for each in made.made}
        if replaced := {rendition_name(each.kind, each.recipe) for each in old if each} - names:
            payload |= {SHARD: blob.shard, NAMES: " ".join(sorted(replaced))}
            await outbox.add(DROP_RENDITIONS, payload, delay=made.drop_after)
        touched = await FakeImages(tables).touch(made.blob_id, made.most_images)
        return Recorded(Recording.RECORDED, touched)


def _is_made(blob: Blob, sort: RenditionSort) -> bool:
    if sort is RenditionSort.THUMBNAILS and blob.processing is not Processing.READY:
        return False
    return (getattr(blob, f"{sort.value}_recipe") or 0) >= sort.recipe


class FakeUploads:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def get(self, upload_id: UUID) -> Upload | None:
        return self._tables.uploads.get(upload_id)

    async def add(self, upload: Upload) -> None:
        self._tables.uploads[upload.id] = upload

    async def complete(self, upload_id: UUID, image_id: UUID) -> bool:
        upload = self._tables.uploads.get(upload_id)
        if upload is None or upload.image_id is not None:
            return False
        self._tables.uploads[upload_id] = replace(upload, image_id=image_id)
        return True

    async def ended(self, before: datetime, after: UUID, limit: int) -> Sequence[Upload]:
        found = [
            upload
            for upload in sorted(self._tables.uploads.values(), key=lambda upload: upload.id)
            if upload.expires_at <= before and upload.id > after
        ]
        return found[:limit]

    async def known(self, upload_ids: Sequence[UUID]) -> set[UUID]:
        return set(upload_ids) & set(self._tables.uploads)

    async def remove(self, upload_id: UUID) -> None:
        self._tables.uploads.pop(upload_id, None)


class FakeKeys:
    def __init__(self, tables: Tables) -> None:
        self._keys = tables.keys

    async def claim(
        self, key_hash: bytes, request_digest: bytes, lease: UUID, *, lease_for: timedelta, life: timedelta
    ) -> bool:
        now, row = datetime.now(UTC), self._keys.get(key_hash)
        if row and row.expires_at > now and (row.image_id or row.leased_until > now):
            return False
        self._keys[key_hash] = HeldRow(KeyRecord(request_digest), lease, now + lease_for, now + life)
        return True

    async def get(self, key_hash: bytes) -> KeyRecord | None:
        row = self._keys.get(key_hash)
        return row.record if row else None

    def _held(self, key_hash: bytes, lease: UUID) -> HeldRow | None:
        row = self._keys.get(key_hash)
        return row if row and row.lease == lease and row.image_id is None else None

    async def renew(self, key_hash: bytes, lease: UUID, *, lease_for: timedelta) -> None:
        if row := self._held(key_hash, lease):
            self._keys[key_hash] = replace(row, leased_until=datetime.now(UTC) + lease_for)

    async def settle(
        self, key_hash: bytes, lease: UUID, image_id: UUID, sealed_answer: bytes, *, life: timedelta
    ) -> bool:
        if not (row := self._held(key_hash, lease)):
            return False
        record = replace(row.record, sealed_answer=sealed_answer)
        self._keys[key_hash] = replace(
            row, record=record, image_id=image_id, expires_at=datetime.now(UTC) + life
        )
        return True

    async def free(self, key_hash: bytes, lease: UUID) -> None:
        if self._held(key_hash, lease):
            del self._keys[key_hash]

    async def forget(self, image_id: UUID) -> None:
        for key_hash, row in list(self._keys.items()):
            if row.image_id == image_id:
                del self._keys[key_hash]

    async def forget_expired(self, limit: int) -> int:
        now = datetime.now(UTC)
        over = [key_hash for key_hash, row in self._keys.items() if row.expires_at <= now][:limit]
        for key_hash in over:
            del self._keys[key_hash]
        return len(over)


class FakeOutbox:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def add(self, kind: str, payload: Mapping[str, str], *, delay: timedelta | None = None) -> UUID:
        entry_id = new_id(datetime.now(UTC))
        self._tables.outbox[entry_id] = (kind, dict(payload))
        return entry_id

    async def owes(self, payload: Mapping[str, str], *kinds: str) -> bool:
        return any(
            kind in kinds and payload.items() <= held.items() for kind, held in self._tables.outbox.values()
        )

    async def done(self, entry_id: UUID) -> None:
        self._tables.outbox.pop(entry_id, None)

    async def discard(self, payload: Mapping[str, str], *kinds: str) -> None:
        for entry_id, (kind, held) in list(self._tables.outbox.items()):
            if kind in kinds and payload.items() <= held.items():
                del self._tables.outbox[entry_id]


class FakeBlobStore:
    """Objects in memory. `error` is raised by every call while it is set."""

    shard = "memory"
    shards = (shard,)

    def __init__(self) -> None:
        self.objects: dict[UUID, bytes] = {}
        self.modified: dict[UUID, datetime] = {}
        # By blob and name.
        self.made: dict[tuple[UUID, str], bytes] = {}
        self.made_at: dict[tuple[UUID, str], datetime] = {}
        self.error: Exception | None = None
        self.unfinished = 0

    def _check(self) -> None:
        if self.error:
            raise self.error

    async def put(
        self, blob_id: UUID, shard: str, chunks: Iterable[bytes], size: int, media_type: str
    ) -> None:
        self._check()
        content = b"".join(chunks)
        assert len(content) == size
        assert shard == self.shard
        self.objects[blob_id] = content
        self.modified[blob_id] = datetime.now(UTC)

    async def sha256(self, blob_id: UUID, shard: str) -> bytes | None:
        self._check()
        content = self.objects.get(blob_id)
        return None if content is None else sha256(content).digest()

    async def size(self, blob_id: UUID, shard: str) -> int | None:
        self._check()
        content = self.objects.get(blob_id)
        return None if content is None else len(content)

    @contextlib.asynccontextmanager
    async def fetch(self, blob_id: UUID, shard: str) -> AsyncIterator[Received]:
        self._check()
        with FakeReceived(self.objects[blob_id]) as received:
            yield received

    async def put_rendition(self, rendition: Rendition, shard: str, content: bytes) -> None:
        self._check()
        key = (rendition.blob_id, rendition_name(rendition.kind, rendition.recipe))
        self.made[key] = content
        self.made_at[key] = datetime.now(UTC)

    async def put_renditions(self, shard: str, made: Mapping[Rendition, bytes]) -> None:
        for rendition, content in made.items():
            await self.put_rendition(rendition, shard, content)

    async def read_rendition(self, rendition: Rendition, shard: str) -> bytes | None:
        self._check()
        return self.made.get((rendition.blob_id, rendition_name(rendition.kind, rendition.recipe)))

    async def renditions(self, blob_id: UUID, shard: str) -> Mapping[str, int]:
        self._check()
        return {name: len(content) for (other, name), content in self.made.items() if other == blob_id}

    async def delete_rendition(self, blob_id: UUID, name: str, shard: str) -> None:
        self._check()
        self.made.pop((blob_id, name), None)

    async def delete(self, blob_id: UUID, shard: str) -> None:
        for name in await self.renditions(blob_id, shard):
            await self.delete_rendition(blob_id, name, shard)
        self.objects.pop(blob_id, None)

    async def list(self) -> AsyncIterator[StoredObject]:
        self._check()
        for blob_id, content in list(self.objects.items()):
            yield StoredObject(blob_id, self.shard, len(content), self.modified[blob_id])
        for (blob_id, name), content in list(self.made.items()):
            yield StoredObject(blob_id, self.shard, len(content), self.made_at[blob_id, name], name)

    async def remove_unfinished(self, before: datetime) -> int:
        removed, self.unfinished = self.unfinished, 0
        return removed


class FakeCaches:
    """Remembers what was made unreadable, as pairs of id and oldest version to be shown."""

    def __init__(self) -> None:
        self.invalidated: list[tuple[UUID, int]] = []
        self.all_invalidated = 0

    async def invalidate(self, image_id: UUID, oldest: int) -> bool:
        self.invalidated.append((image_id, oldest))
        return True

    async def invalidate_all(self) -> bool:
        self.all_invalidated += 1
        return True


class FakeReceived:
    """An upload that has arrived."""

    def __init__(self, content: bytes) -> None:
        self.size = len(content)
        self.sha256 = sha256(content).digest()
        self._file = TemporaryFile()  # noqa: SIM115 - closed by __exit__
        self._file.write(content)
        self._file.flush()

    def fileno(self) -> int:
        return self._file.fileno()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


class FakeInspector:
    """Takes any upload for a whole JPEG of 4 × 3 pixels, unless told to refuse."""

    def __init__(self) -> None:
        self.error: Exception | None = None

    async def inspect(self, received: Received) -> Inspection:
        if self.error:
            raise self.error
        return Inspection(
            format=ImageFormat.JPEG,
            width=4,
            height=3,
            pieces=(Slice(0, received.size),),
            size=received.size,
            sha256=received.sha256,
        )


class FakeCatalogue:
    """What the rows of a fake database know."""

    def __init__(self, database: FakeTransactions) -> None:
        self._database = database

    async def known(self, blob_ids: Sequence[UUID]) -> Mapping[UUID, str]:
        blobs = self._database.tables.blobs
        return {blob_id: blobs[blob_id].shard for blob_id in blob_ids if blob_id in blobs}

    async def renditions(self, blob_ids: Sequence[UUID]) -> Mapping[UUID, Mapping[str, int]]:
        found: dict[UUID, dict[str, int]] = {}
        for each in self._database.tables.renditions.values():
            if each.blob_id in blob_ids:
                name = rendition_name(each.kind, each.recipe)
                found.setdefault(each.blob_id, {})[name] = each.byte_size
        return found

    async def is_live(self, blob_id: UUID) -> bool:
        blob = self._database.tables.blobs.get(blob_id)
        return blob is not None and blob.state is BlobState.LIVE

    async def live(self) -> AsyncIterator[Blob]:
        for _, blob in sorted(self._database.tables.blobs.items()):
            if blob.state is BlobState.LIVE:
                yield blob

    async def held_by(self, shard: str) -> AsyncIterator[Blob]:
        async for blob in self.live():
            if blob.shard == shard:
                yield blob

    async def count_held_by(self, shard: str) -> int:
        return len([blob async for blob in self.held_by(shard)])

    async def shards(self) -> Mapping[str, int]:
        tables = self._database.tables
        now = datetime.now(UTC)
        begun = [
            upload.shard
            for upload in tables.uploads.values()
            if upload.image_id is None and upload.expires_at > now
        ]
        return Counter([*begun, *(blob.shard for blob in tables.blobs.values())])


class FakeQuotas:
    """What images take up, counted in a fake database."""

    def __init__(self, quota_bytes: int = 0, quota_images: int = 0) -> None:
        self._quota_bytes = quota_bytes
        self._quota_images = quota_images

    async def charge(self, transaction: UnitOfWork, user_id: UUID, byte_size: int) -> None:
        users = tables_of(transaction).users
        if user_id not in users:
            raise InvalidToken
        user = users[user_id]
        quotas = (
            self._quota_bytes if user.quota_bytes is None else user.quota_bytes,
            self._quota_images if user.quota_images is None else user.quota_images,
        )
        wanted = (user.used_bytes + byte_size, user.used_images + 1)
        if any(quota and much > quota for quota, much in zip(quotas, wanted, strict=True)):
            raise QuotaExceeded(
                details={
                    "quota_bytes": quotas[0] or None,
                    "used_bytes": user.used_bytes,
                    "quota_images": quotas[1] or None,
                    "used_images": user.used_images,
                }
            )
        users[user_id] = replace(user, used_bytes=wanted[0], used_images=wanted[1])

    async def release(self, transaction: UnitOfWork, user_id: UUID, byte_size: int) -> None:
        users = tables_of(transaction).users
        if user := users.get(user_id):
            users[user_id] = replace(
                user,
                used_bytes=max(user.used_bytes - byte_size, 0),
                used_images=max(user.used_images - 1, 0),
            )


class FakeAuditLog:
    """Writes to the tables of the transaction."""

    async def record(
        self,
        transaction: UnitOfWork,
        *,
        actor: Principal,
        action: str,
        subject: str,
        details: Mapping[str, str | int | bool | None] | None = None,
    ) -> None:
        line = AuditLine(actor.user_id, action, subject, dict(details or {}))
        tables_of(transaction).audit.append(line)


def tables_of(transaction: UnitOfWork) -> Tables:
    """The tables as a transaction that another module began sees them."""
    assert isinstance(transaction, FakeUnitOfWork)
    return transaction.tables


def a_user(**fields: Any) -> User:
    """An account of which only these fields matter."""
    now = datetime.now(UTC)
    user_id = new_id(now)
    given: dict[str, Any] = {
        "id": user_id,
        "email": Email.of(f"{user_id.hex}@example.com"),
        "password_hash": "a hash",
        "created_at": now,
        "updated_at": now,
    }
    return User(**(given | fields))

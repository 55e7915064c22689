"""Upload an image: check it, keep its bytes, make it known."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import msgspec

from chitram.accounts.public import Principal, Quotas
from chitram.images.domain.content import Inspection, Received, stored_chunks
from chitram.images.domain.errors import UploadAlreadyCompleted
from chitram.images.domain.filename import sanitise_filename
from chitram.images.domain.image import Blob, BlobState, Image, Visibility
from chitram.images.domain.policies import check_declared_type, check_digest, check_options, new_token
from chitram.images.domain.rendition import Processing, Rendition, RenditionSort
from chitram.images.domain.work import BLOB_ID, MAKE_RENDITIONS, REMAKE_RENDITIONS
from chitram.images.ports import (
    BlobStore,
    ImagesUnitOfWork,
    Inspector,
    LiveBlobExists,
    StaleBlob,
    Transactions,
)
from chitram.images.use_cases.copies import CopyRules, owe_drop
from chitram.images.use_cases.held_key import HeldKey
from chitram.kernel.clock import Clock
from chitram.kernel.errors import CommitUncertain, StorageUnavailable
from chitram.kernel.ids import new_id

# Each round is lost to another upload or delete of the very same content, which then is done.
_ROUNDS = 50


class UploadCommand(msgspec.Struct, frozen=True, kw_only=True):
    """One file to keep, wholly received.

    Attributes:
        declared_type: the client's media type, compared with the content but never believed.
        expires_in: seconds after which the image goes by itself; None is never.
        expected_digest: SHA-256 that the client says it sent, 32 bytes.
        address: network address of the client.
        completes: the direct upload that this image is made of.
        held_key: the idempotency key under which this is done.
    """

    received: Received
    principal: Principal
    declared_type: str | None = None
    filename: str | None = None
    visibility: Visibility = Visibility.UNLISTED
    expires_in: int | None = None
    expected_digest: bytes | None = None
    address: str | None = None
    completes: UUID | None = None
    held_key: HeldKey | None = None

    @property
    def is_alone(self) -> bool:
        """Whether nothing but the image and its blob changes with it."""
        return self.principal.user_id is None and self.completes is None and self.held_key is None


class UploadedImage(msgspec.Struct, frozen=True):
    """The new image, the token that deletes it when nobody owns it, and what its blob had before.

    `replayed` when it was made by an earlier request with the same idempotency key.
    """

    image: Image
    blob: Blob
    delete_token: str | None
    replayed: bool = False
    renditions: tuple[Rendition, ...] = ()


class UploadRules(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator decided about uploads.

    Attributes:
        delete_token_life: how long delete tokens work; None is for ever.
        newest_commit: how old a blob id may be when it is committed: half of reconcile's grace.
        copies: how long copies in other stores stay.
    """

    delete_token_life: timedelta | None
    newest_commit: timedelta
    copies: CopyRules


class GenerationGone(Exception):
    """The live blob that was found is no longer live, or no longer where it was."""


class UploadImage:
    """Who may upload is decided before the bytes are read, in `entrypoints/uploaders.py`.

    Refused with the errors of `images.domain.errors` that name uploads, and with `QuotaExceeded`. A
    failure leaves either the whole image or an object without a row, which reconcile removes.
    """

    def __init__(
        self,
        transactions: Transactions,
        blobs: BlobStore,
        inspector: Inspector,
        quotas: Quotas,
        clock: Clock,
        rules: UploadRules,
    ) -> None:
        self._transactions = transactions
        self._blobs = blobs
        self._inspector = inspector
        self._quotas = quotas
        self._clock = clock
        self._rules = rules

    async def __call__(self, command: UploadCommand) -> UploadedImage:
        check_options(command.visibility, command.expires_in, owner_id=command.principal.user_id)
        check_digest(command.expected_digest, command.received)
        inspection = await self._inspector.inspect(command.received)
        check_declared_type(command.declared_type, inspection.format)
        token = (None, None) if command.principal.user_id else new_token()
        return await self._keep(command, inspection, token)

    async def _keep(
        self, command: UploadCommand, inspection: Inspection, token: tuple[str, bytes] | tuple[None, None]
    ) -> UploadedImage:
        """Commit an image over the live blob of its content, or over a new one of its own.

        A round is lost when another transaction makes or condemns that blob in between. An object
        of our own is stored once and kept for the next round.
        """
        own: Blob | None = None
        for _ in range(_ROUNDS):
            live = await self._transactions.find_live(inspection.sha256)
            blob = live or own
            if blob is None:
                blob = own = self._new_blob(inspection)
                await self._put(command.received, inspection, own)
            image = self._new_image(command, blob, token[1])
            uploaded = UploadedImage(image, blob, token[0])
            try:
                if live is None:
                    await self._commit_new(command, uploaded)
                else:
                    uploaded = await self._commit_shared(command, inspection, uploaded)
            except (LiveBlobExists, GenerationGone):
                continue
            except StaleBlob:
                await self._discard(own)
                own = None
                continue
            except CommitUncertain as uncertain:
                if uncertain.timed_out:
                    raise
                # The row may be there, so its object has to stay, whatever the second look says.
                await self._confirm(image)
            except Exception:
                await self._discard(own)
                raise
            if own is not blob:
                await self._discard(own)
            return uploaded
        await self._discard(own)
        raise StorageUnavailable("The same content is being uploaded and deleted at once. Try again.")

    async def _commit_new(self, command: UploadCommand, uploaded: UploadedImage) -> None:
        """Commit blob, image and outbox together."""
        blob = uploaded.blob
        if command.is_alone:
            await self._transactions.add_first(blob, uploaded.image, newer_than=self._rules.newest_commit)
            return
        async with self._transactions.begin() as transaction:
            await transaction.blobs.add(blob, newer_than=self._rules.newest_commit)
            await self._add_image(transaction, command, uploaded)
            await transaction.outbox.add(MAKE_RENDITIONS, {BLOB_ID: str(blob.id)})
            await transaction.commit()

    async def _commit_shared(
        self, command: UploadCommand, inspection: Inspection, uploaded: UploadedImage
    ) -> UploadedImage:
        """Commit another image over a blob that is there already, and put back its lost or damaged object."""
        blob = uploaded.blob
        restored = blob.is_damaged or await self._blobs.size(blob.id, blob.shard) != blob.byte_size
        if restored:
            await self._put(command.received, inspection, blob)
        async with self._transactions.begin() as transaction:
            locked = await transaction.blobs.lock(blob.id)
            live = locked is not None and locked.state is BlobState.LIVE
            if locked is not None and live and locked.shard == blob.shard:
                made = tuple(await transaction.renditions.of(blob.id))
                uploaded = msgspec.structs.replace(uploaded, renditions=made)
                if restored:
                    mended = await self._mend(transaction, locked)
                    uploaded = msgspec.structs.replace(uploaded, blob=mended)
                await self._add_image(transaction, command, uploaded)
                await transaction.commit()
                return uploaded
            if live and restored:
                # It was missing because it was moved away; what was put in its place has to go.
                await owe_drop(transaction, blob.id, blob.shard, self._rules.copies)
                await transaction.commit()
        if restored and not live:
            # It was missing because it was being deleted; it has to go once more.
            await self._discard(blob)
        raise GenerationGone

    async def _mend(self, transaction: ImagesUnitOfWork, blob: Blob) -> Blob:
        """Say that a blob's object is whole again, and have made what its loss kept from being made."""
        await transaction.blobs.set_verified(blob.id, self._clock.now(), is_intact=True)
        if blob.processing is not Processing.FAILED:
            return blob
        payload = {BLOB_ID: str(blob.id)}
        await transaction.outbox.discard(payload, MAKE_RENDITIONS, REMAKE_RENDITIONS)
        await transaction.blobs.set_recipe(blob.id, RenditionSort.THUMBNAILS, None)
        await transaction.blobs.set_processing(blob.id, Processing.PENDING)
        await transaction.outbox.add(MAKE_RENDITIONS, payload)
        return replace(blob, processing=Processing.PENDING)

    async def _add_image(
        self, transaction: ImagesUnitOfWork, command: UploadCommand, uploaded: UploadedImage
    ) -> None:
        """Add an image over a blob that is locked or new, and count it for its owner.

        What only one image can be made of or under is marked.
        """
        image = uploaded.image
        await transaction.images.add(image)
        if command.completes and not await transaction.uploads.complete(command.completes, image.id):
            raise UploadAlreadyCompleted
        if command.held_key:
            await command.held_key.settle(transaction, image.id, uploaded)
        # Last, for whoever holds an account's row may wait for no blob's.
        if image.owner_id is not None:
            await self._quotas.charge(transaction, image.owner_id, uploaded.blob.byte_size)

    async def _discard(self, blob: Blob | None) -> None:
        """Remove an object that no row names; what cannot be removed now is left to reconcile."""
        if blob is not None:
            with contextlib.suppress(StorageUnavailable):
                await self._blobs.delete(blob.id, blob.shard)

    async def _confirm(self, image: Image) -> None:
        """Look again after a commit whose answer was lost; raises when the image is not there."""
        async with self._transactions.begin() as transaction:
            if await transaction.images.get(image.id) is None:
                raise CommitUncertain

    async def _put(self, received: Received, inspection: Inspection, blob: Blob) -> None:
        chunks = stored_chunks(received, inspection.pieces)
        await self._blobs.put(blob.id, blob.shard, chunks, inspection.size, blob.format.media_type)

    def _new_blob(self, inspection: Inspection) -> Blob:
        return Blob(
            id=new_id(self._clock.now()),
            sha256=inspection.sha256,
            byte_size=inspection.size,
            format=inspection.format,
            width=inspection.width,
            height=inspection.height,
            shard=self._blobs.shard,
        )

    def _new_image(self, command: UploadCommand, blob: Blob, token_hash: bytes | None) -> Image:
        now, life = self._clock.now(), self._rules.delete_token_life
        return Image(
            id=new_id(now),
            blob_id=blob.id,
            owner_id=command.principal.user_id,
            filename=sanitise_filename(command.filename, blob.format.extension),
            visibility=command.visibility,
            delete_token_hash=token_hash,
            delete_token_expires_at=now + life if token_hash and life else None,
            expires_at=now + timedelta(seconds=command.expires_in) if command.expires_in else None,
            upload_address=command.address,
            created_at=now,
            updated_at=now,
        )

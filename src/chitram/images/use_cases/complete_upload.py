"""Complete a direct upload: check what was put, and only then make it an image."""

from __future__ import annotations

import contextlib
from uuid import UUID

import msgspec

from chitram.accounts.public import Principal
from chitram.images.domain.errors import UploadAlreadyCompleted, UploadNotReceived
from chitram.images.domain.idempotency import IdempotencyKey, digest_of
from chitram.images.domain.policies import check_may_complete
from chitram.images.domain.upload import Upload
from chitram.images.ports import Quarantine, Transactions
from chitram.images.use_cases.begin_upload import DirectUploadRules
from chitram.images.use_cases.held_key import HeldKey
from chitram.images.use_cases.once import Once
from chitram.images.use_cases.upload_image import UploadCommand, UploadedImage, UploadImage
from chitram.kernel.clock import Clock
from chitram.kernel.errors import InvalidRequest, StorageUnavailable


class CompleteUploadCommand(msgspec.Struct, frozen=True, kw_only=True):
    """Which upload, who asks, and what they bring.

    Attributes:
        token: the upload token of an anonymous upload.
        expected_digest: SHA-256 that the client says it put, 32 bytes.
        address: network address of the client.
        key: under which this may be repeated, to get the same answer again.
    """

    upload_id: UUID
    principal: Principal
    token: str | None = None
    expected_digest: bytes | None = None
    address: str | None = None
    key: IdempotencyKey | None = None


class CompleteUpload:
    """Whoever began an upload may complete it, once.

    Raises what `check_may_complete` raises, `UploadNotReceived`, `FileTooLarge`,
    `UploadAlreadyCompleted`, and everything that `Once` and `UploadImage` raise. Any refusal of the content
    leaves the upload open, for other bytes to be put in its place.

    The bytes are read once: what was read is what is checked and stored, whatever is put in
    quarantine meanwhile. Of two completions at once, the transaction of the image lets one win.
    """

    def __init__(
        self,
        transactions: Transactions,
        quarantine: Quarantine,
        upload_image: UploadImage,
        once: Once,
        clock: Clock,
        rules: DirectUploadRules,
    ) -> None:
        self._transactions = transactions
        self._quarantine = quarantine
        self._upload_image = upload_image
        self._once = once
        self._clock = clock
        self._rules = rules

    async def __call__(self, command: CompleteUploadCommand) -> UploadedImage:
        # Of the bytes nothing: after completion there are none any more to compare.
        digest = digest_of("complete", str(command.upload_id), command.token, command.expected_digest)
        return await self._once(command.key, digest, lambda held: self._complete(command, held))

    async def _complete(self, command: CompleteUploadCommand, held: HeldKey | None) -> UploadedImage:
        upload = await self._open_upload(command)
        try:
            uploaded = await self._check_and_keep(upload, command, held)
        except (UploadAlreadyCompleted, UploadNotReceived):
            # Another completion may have won, and cleared up, since the first look.
            await self._open_upload(command)
            raise
        # What cannot be removed now is when the upload's time is over.
        with contextlib.suppress(StorageUnavailable):
            await self._quarantine.delete(upload.id, upload.shard)
        return uploaded

    async def _open_upload(self, command: CompleteUploadCommand) -> Upload:
        async with self._transactions.begin() as transaction:
            found = await transaction.uploads.get(command.upload_id)
        upload = check_may_complete(
            found, caller_id=command.principal.user_id, token=command.token, now=self._clock.now()
        )
        if upload.image_id is not None:
            raise UploadAlreadyCompleted(details={"image_id": str(upload.image_id)})
        return upload

    async def _check_and_keep(
        self, upload: Upload, command: CompleteUploadCommand, held: HeldKey | None
    ) -> UploadedImage:
        async with self._quarantine.fetch(
            upload.id, upload.shard, limit=self._rules.max_bytes, seconds=self._rules.read_seconds
        ) as received:
            if not received.size:
                raise InvalidRequest("The file is empty.")
            return await self._upload_image(
                UploadCommand(
                    received=received,
                    principal=Principal(upload.owner_id),
                    declared_type=upload.content_type,
                    filename=upload.filename,
                    visibility=upload.visibility,
                    expires_in=upload.expires_in,
                    expected_digest=command.expected_digest,
                    address=command.address,
                    completes=upload.id,
                    held_key=held,
                )
            )

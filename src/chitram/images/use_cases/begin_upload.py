"""Begin a direct upload: say where the bytes may be put."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta

import msgspec

from chitram.accounts.public import Principal
from chitram.images.domain.filename import clean_filename
from chitram.images.domain.image import ImageFormat, Visibility
from chitram.images.domain.policies import acceptable_type, check_options, new_token
from chitram.images.domain.upload import Upload
from chitram.images.ports import Quarantine, Transactions
from chitram.kernel.clock import Clock
from chitram.kernel.errors import FileTooLarge, InvalidRequest
from chitram.kernel.ids import new_id


class BeginUploadCommand(msgspec.Struct, frozen=True, kw_only=True):
    """What the client says of a file that it has not sent yet; all of it is checked again at the end.

    Attributes:
        file_size: bytes, so that a file over the limit is refused before it is sent anywhere.
    """

    principal: Principal
    filename: str | None = None
    content_type: str | None = None
    visibility: Visibility = Visibility.UNLISTED
    expires_in: int | None = None
    file_size: int | None = None


class BegunUpload(msgspec.Struct, frozen=True):
    """The upload, the token that completes it when nobody owns it, and where to put its bytes.

    `address` is None when they have to come through this application.
    """

    upload: Upload
    token: str | None
    address: str | None


class DirectUploadRules(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator decided about direct uploads.

    Attributes:
        life: how long an upload can be completed, and its address be used.
        max_bytes: largest file.
        read_seconds: within which the bytes have to be read from quarantine.
        formats: formats that are accepted.
    """

    life: timedelta
    max_bytes: int
    read_seconds: float
    formats: Collection[ImageFormat]


class BeginUpload:
    """Anyone may begin an upload that they could make.

    Raises `InvalidRequest`, `FileTooLarge` and `InvalidFileFormat` for what could never be
    completed, and `StorageUnavailable` when there is nowhere to put it.
    """

    def __init__(
        self, transactions: Transactions, quarantine: Quarantine, clock: Clock, rules: DirectUploadRules
    ) -> None:
        self._transactions = transactions
        self._quarantine = quarantine
        self._clock = clock
        self._rules = rules

    async def __call__(self, command: BeginUploadCommand) -> BegunUpload:
        owner_id = command.principal.user_id
        check_options(command.visibility, command.expires_in, owner_id=owner_id)
        self._check_size(command.file_size)
        token, token_hash = (None, None) if owner_id else new_token()
        now = self._clock.now()
        upload = Upload(
            id=new_id(now),
            shard=self._quarantine.shard,
            owner_id=owner_id,
            token_hash=token_hash,
            filename=clean_filename(command.filename) or None,
            content_type=acceptable_type(command.content_type, self._rules.formats),
            visibility=command.visibility,
            expires_in=command.expires_in,
            created_at=now,
            expires_at=now + self._rules.life,
        )
        seconds = int(self._rules.life.total_seconds())
        address = await self._quarantine.address(upload.id, upload.shard, seconds)
        # Only what has a row is ever handed out, so an object without one belongs to nobody.
        async with self._transactions.begin() as transaction:
            await transaction.uploads.add(upload)
            await transaction.commit()
        return BegunUpload(upload, token, address)

    def _check_size(self, size: int | None) -> None:
        if size is None:
            return
        if size < 1:
            raise InvalidRequest("file_size is a number of bytes from 1 on.", details={"field": "file_size"})
        if size > self._rules.max_bytes:
            raise FileTooLarge(self._rules.max_bytes)

"""Upload an image under an idempotency key."""

from __future__ import annotations

import msgspec

from chitram.images.domain.idempotency import IdempotencyKey, digest_of
from chitram.images.domain.policies import check_digest
from chitram.images.use_cases.held_key import HeldKey
from chitram.images.use_cases.once import Once
from chitram.images.use_cases.upload_image import UploadCommand, UploadedImage, UploadImage


class UploadOnce:
    """Whoever may upload may do so under a key, and then again without making another image.

    Raises what `Once` and `UploadImage` raise. A repeat is not checked again, only compared.
    """

    def __init__(self, upload_image: UploadImage, once: Once) -> None:
        self._upload_image = upload_image
        self._once = once

    async def __call__(self, command: UploadCommand, key: IdempotencyKey | None) -> UploadedImage:
        if key is None:
            return await self._upload_image(command)
        # What was garbled on its way is that, and no other request under the same key.
        check_digest(command.expected_digest, command.received)

        async def upload(held: HeldKey | None) -> UploadedImage:
            return await self._upload_image(msgspec.structs.replace(command, held_key=held))

        return await self._once(key, _digest(command), upload)


def _digest(command: UploadCommand) -> bytes:
    return digest_of(
        "upload",
        command.received.sha256,
        command.declared_type,
        command.filename,
        command.visibility.value,
        command.expires_in,
    )

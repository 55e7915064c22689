"""Addresses of this application that take the bytes of direct uploads, for stores without their own."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from chitram.images.domain.errors import InvalidUploadAddress
from chitram.kernel.clock import Clock
from chitram.platform.signing import Signer

ADDRESS_PURPOSE = "direct upload"


class UploadAddresses:
    """Makes and checks them.

    Args:
        base_url: how clients reach this server; empty for addresses without a host.
    """

    def __init__(self, signer: Signer, clock: Clock, base_url: str) -> None:
        self._signer = signer
        self._clock = clock
        self._base_url = base_url.rstrip("/")

    def make(self, upload_id: UUID, expires_at: datetime) -> str:
        """Make the address at which an upload's bytes are taken until `expires_at`."""
        expires = str(int(expires_at.timestamp()))
        signature = self._signer.sign(str(upload_id), expires)
        path = f"/api/v1/uploads/{upload_id}/content"
        return f"{self._base_url}{path}?expires={expires}&signature={signature}"

    def check(self, upload_id: UUID, expires: str | None, signature: str | None) -> None:
        """Raise `InvalidUploadAddress` unless this was made here and its time is not over."""
        if not self._signer.verify(signature or "", str(upload_id), expires or ""):
            raise InvalidUploadAddress
        # Signed by us, so it is a number.
        if self._clock.now().timestamp() >= int(expires or "0"):
            raise InvalidUploadAddress

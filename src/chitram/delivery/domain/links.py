"""Links that show the file of a private image to whoever has them, until their time is up."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Protocol
from uuid import UUID

LONGEST_SECONDS = 7 * 86_400
# Seconds since 1970: ten digits reach the year 2286.
_EXPIRES = re.compile(r"[1-9][0-9]{0,9}", re.ASCII)
# Far above any signature: what is longer is not worth comparing.
_MAX_SIGNATURE = 256
_RESOURCE = "file"


class Signatures(Protocol):
    """Signs lists of fields, and knows its own signatures again."""

    def sign(self, *fields: str) -> str: ...

    def verify(self, signature: str, *fields: str) -> bool: ...


class SignedLinks:
    """Makes and checks links; `base_url` goes before their path."""

    def __init__(self, signatures: Signatures, base_url: str) -> None:
        self._signatures = signatures
        self._base_url = base_url

    def make(self, image_id: UUID, file_path: str, expires_at: datetime) -> str:
        """Make a link to an image's file that works until the whole second of `expires_at`."""
        expires = str(int(expires_at.timestamp()))
        signature = self._signatures.sign(_RESOURCE, str(image_id), expires)
        return f"{self._base_url}{file_path}?expires={expires}&signature={signature}"

    def open_until(
        self, image_id: UUID, expires: Sequence[str], signatures: Sequence[str], now: datetime
    ) -> datetime | None:
        """Return until when a request with these parameters sees the image; None when it does not.

        The two parameters are lists of what the request says of each: anything but one is no link.
        """
        if len(expires) != 1 or len(signatures) != 1 or not _EXPIRES.fullmatch(expires[0]):
            return None
        if len(signatures[0]) > _MAX_SIGNATURE:
            return None
        until = datetime.fromtimestamp(int(expires[0]), UTC)
        is_ours = self._signatures.verify(signatures[0], _RESOURCE, str(image_id), expires[0])
        return until if is_ours and now < until else None

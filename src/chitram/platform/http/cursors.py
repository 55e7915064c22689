"""Cursors of lists that are read page by page, in order of id."""

from __future__ import annotations

import base64
from uuid import UUID

from chitram.kernel.errors import InvalidRequest
from chitram.platform.signing import Signer

PURPOSE = "list cursor"
LONGEST_PAGE = 100
# 16 bytes of an id in base64url, before the signature.
_ID_CHARACTERS = 22


class Cursors:
    """Where a page of a list ends, signed, so that nothing but what was handed out comes back."""

    def __init__(self, signer: Signer) -> None:
        self._signer = signer

    def make(self, last: UUID, of: str, owner_id: UUID | None) -> str:
        """Make the cursor of a page that ends with `last`: of somebody's things, or of everybody's."""
        text = base64.urlsafe_b64encode(last.bytes).rstrip(b"=").decode()
        return text + self._signer.sign(text, of, str(owner_id))

    def read(self, cursor: str, of: str, owner_id: UUID | None) -> UUID:
        """Read a cursor of the same list. Raises `InvalidRequest`."""
        text, signature = cursor[:_ID_CHARACTERS], cursor[_ID_CHARACTERS:]
        if not self._signer.verify(signature, text, of, str(owner_id)):
            raise InvalidRequest("The cursor is none of this list.", details={"field": "cursor"})
        return UUID(bytes=base64.urlsafe_b64decode(text + "=="))

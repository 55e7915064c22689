"""Telling the operator of damage, in the log."""

from __future__ import annotations

import structlog

from chitram.images.domain.image import Blob

_log = structlog.get_logger("chitram.images")


class LoggedDamage:
    """Writes an error for each damaged blob that is found."""

    def damaged(self, blob: Blob, found: bytes | None) -> None:
        _log.error(
            "damaged blob" if found else "missing blob",
            blob=str(blob.id),
            shard=blob.shard,
            expected=blob.sha256.hex(),
            found=found.hex() if found else None,
        )

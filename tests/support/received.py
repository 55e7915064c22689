"""Whole uploads in anonymous files."""

from __future__ import annotations

import hashlib
import tempfile


class Stored:
    """Bytes as a spool has them; `file` is for the caller to close."""

    def __init__(self, data: bytes) -> None:
        self.file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - see above
        self.file.write(data)
        self.size = len(data)
        self.sha256 = hashlib.sha256(data).digest()

    def fileno(self) -> int:
        return self.file.fileno()

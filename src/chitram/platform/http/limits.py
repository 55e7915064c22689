"""What a body may cost us."""

from __future__ import annotations

from pathlib import Path

import msgspec


class BodyLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Limits on one request's body.

    Attributes:
        file_bytes: largest file.
        batch_files: most files in a batch.
        fields: most form fields beside files.
        seconds: time within which the body of one file has to arrive.
        spool_directory: where it is kept meanwhile.
    """

    file_bytes: int
    batch_files: int
    fields: int
    seconds: float
    spool_directory: Path


class SendLimits(msgspec.Struct, frozen=True):
    """Limits on one answer: `seconds` within which the client has to have taken all of it."""

    seconds: float

"""Log files of the embedded servers."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from chitram.platform.embedded.errors import explained

_MAX_BYTES = 4 << 20
_TAIL_BYTES = 4096
_TAIL_LINES = 10


class Log:
    """A log file open for adding to, readable by its owner only.

    When it has grown beyond 4 MiB it is put aside first; one older file is kept.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_size > _MAX_BYTES:
                    path.rename(path.with_name(f"{path.name}.1"))
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        except OSError as error:
            raise explained(error, path) from error
        self._start = os.fstat(descriptor).st_size
        self.file = os.fdopen(descriptor, "ab", buffering=0)

    def tail(self) -> str:
        """The last lines, ten at most, that were added since it was opened here."""
        with self.path.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(self._start, end - _TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
        return "\n".join(lines[-_TAIL_LINES:])

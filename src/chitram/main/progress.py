"""How far a long command has come."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from tqdm import tqdm

from chitram.images.domain.image import Blob

_LINE_SECONDS = 10.0


class MoveProgress:
    """A bar on a terminal; anywhere else a line now and then. `total` may turn out to be too low."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0
        self._said_at = time.monotonic()
        self._bar = tqdm(
            total=total, unit=" images", dynamic_ncols=True, disable=not sys.stderr.isatty(), file=sys.stderr
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.close()

    def __call__(self, _: Blob) -> None:
        """Count one more."""
        self._done += 1
        self._bar.update()
        if self._bar.disable and time.monotonic() > self._said_at + _LINE_SECONDS:
            self._said_at = time.monotonic()
            sys.stderr.write(f"{self._done} of {self._total}\n")
            sys.stderr.flush()

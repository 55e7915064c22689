"""Checking and storing an upload by the library calls alone, one after the other.

As a program: `python -m benchmarks.peers.check_and_store FOLDER FILE`, driven by `looping`. A step takes a
JPEG from memory, hashes it, walks through its segments, decodes all of it as an upload is decoded, plans
what to store, hashes that where it differs, and keeps it under a new name: written, synced, renamed, its
folder synced. That is what every accepted upload owes its sender, whoever accepts it.

Not done are the copy to the spool, which the API makes so that another, confined process can look at the
bytes; the hop to that process; and whatever has to do with HTTP, rows and queues.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import secrets
import sys
from pathlib import Path

from benchmarks.peers.looping import serve
from chitram.images.adapters.decoder.child import _warm_up, examine
from chitram.images.adapters.decoder.protocol import Terms
from chitram.images.domain.content import Piece, Slice
from chitram.images.domain.image import ImageFormat
from chitram.platform.settings import Settings
from tests.support.photos import unique

_SETTINGS = Settings()
_TERMS = Terms(
    memory_bytes=_SETTINGS.decode_memory_bytes,
    cpu_seconds=_SETTINGS.decode_seconds,
    niceness=0,
    max_pixels=_SETTINGS.max_pixels,
    allowed_formats=tuple(ImageFormat(each) for each in _SETTINGS.allowed_formats),
    keep_metadata=False,
)


def check_and_store(folder: Path, body: bytes) -> None:
    """Do all of it once."""
    hashlib.sha256(body).digest()
    found = examine(body, _TERMS)
    stored = list(_stored(body, found.pieces))
    if found.pieces != (Slice(0, len(body)),):
        digest = hashlib.sha256()
        for part in stored:
            digest.update(part)
    _keep(folder, stored)


def _stored(body: bytes, pieces: tuple[Piece, ...]) -> list[bytes | memoryview]:
    view = memoryview(body)
    return [
        view[each.offset : each.offset + each.length] if isinstance(each, Slice) else each for each in pieces
    ]


def _keep(folder: Path, parts: list[bytes | memoryview]) -> None:
    """Write, sync, rename, sync the folder."""
    name = secrets.token_hex(16)
    temporary, final = folder / f".{name}", folder / name
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640)
    try:
        for part in parts:
            view = memoryview(part)
            while view:
                view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    temporary.rename(final)
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _main(folder: str, file: str) -> None:
    place = Path(folder) / str(os.getpid())
    place.mkdir()
    photo = Path(file).read_bytes()
    numbers = itertools.count(secrets.randbits(31))
    _warm_up(_TERMS)

    def clear() -> None:
        for path in place.iterdir():
            path.unlink()

    serve(lambda: check_and_store(place, unique(photo, next(numbers))), clear)


if __name__ == "__main__":
    _main(*sys.argv[1:])

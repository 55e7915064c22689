"""Making thumbnails by the library calls alone, one image after the other.

As a program: `python -m benchmarks.peers.rendering FOLDER FILE…`, driven by `looping`. A step reads the next
of the originals, hashes it, reads its header, decodes it once, makes the three thumbnails as a worker's
renderer does, and writes them to files without syncing these.

Not done are the hop to a confined process, the check of what it says, durable storing, rows and queues.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import sys
from pathlib import Path

from benchmarks.peers.looping import serve
from chitram.images.adapters.children.frames import Limits
from chitram.images.adapters.decoder import jpeg
from chitram.images.adapters.renderer.child import _warm_up, render
from chitram.images.adapters.renderer.protocol import Job, Work
from chitram.images.domain.image import ImageFormat
from chitram.platform.settings import Settings


def make_thumbnails(folder: Path, original: Path) -> None:
    """Do all of it once."""
    data = original.read_bytes()
    hashlib.sha256(data).digest()
    shape = jpeg.shape(data)
    job = Job(
        work=Work.THUMBNAILS,
        format=ImageFormat.JPEG,
        size=len(data),
        width=shape.width,
        height=shape.height,
        orientation=shape.orientation,
    )
    for made in render(data, job):
        hashlib.sha256(made.content).digest()
        (folder / made.kind.value).write_bytes(made.content)


def _main(folder: str, *files: str) -> None:
    place = Path(folder) / str(os.getpid())
    place.mkdir()
    settings = Settings()
    _warm_up(Limits(memory_bytes=settings.render_memory_bytes, cpu_seconds=60, niceness=0))
    originals = itertools.cycle(Path(each) for each in files)
    serve(lambda: make_thumbnails(place, next(originals)))


if __name__ == "__main__":
    _main(*sys.argv[1:])

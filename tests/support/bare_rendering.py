"""Renderings by the library calls alone: no HTTP, no database, no queue, no other process.

As a program: `python -m tests.support.bare_rendering FOLDER FILE…` makes all renditions of each file,
writes them into the folder, and prints when it began, when the thumbnails were made, and when all was,
by the clock of `time.monotonic`.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from chitram.images.adapters.children.frames import Limits
from chitram.images.adapters.decoder import jpeg
from chitram.images.adapters.renderer.child import _warm_up, render
from chitram.images.adapters.renderer.protocol import Encoded, Job, Work
from chitram.images.domain.image import ImageFormat

# As the renderers of each kind of work are, on top of what was before; on a busy machine it counts.
_NICENESS = {Work.THUMBNAILS: 14, Work.OPTIMISED: 5}


def _rendered(data: bytes, work: Work) -> list[Encoded]:
    shape = jpeg.shape(data)
    job = Job(
        work=work,
        format=ImageFormat.JPEG,
        size=len(data),
        width=shape.width,
        height=shape.height,
        orientation=shape.orientation,
    )
    return render(data, job)


def _main(folder: str, *files: str) -> None:
    _warm_up(Limits(memory_bytes=1 << 30, cpu_seconds=60, niceness=0))
    began = time.monotonic()
    ends = []
    for work, niceness in _NICENESS.items():
        os.nice(niceness)
        for number, name in enumerate(files):
            for each in _rendered(Path(name).read_bytes(), work):
                (Path(folder) / f"{number}-{each.kind.value}").write_bytes(each.content)
        ends.append(time.monotonic())
    sys.stdout.write(f"{began} {ends[0]} {ends[1]}")


if __name__ == "__main__":
    _main(*sys.argv[1:])

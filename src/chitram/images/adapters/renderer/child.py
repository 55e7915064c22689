"""A renderer: the program that a pool starts, with its end of a socket as standard input."""

from __future__ import annotations

import ctypes
import mmap

import numpy as np
import simplejpeg

from chitram.images.adapters.children.frames import Limits
from chitram.images.adapters.children.serve import serve
from chitram.images.adapters.decoder.source import Source
from chitram.images.adapters.renderer.optimise import optimised
from chitram.images.adapters.renderer.original import Original
from chitram.images.adapters.renderer.protocol import Answer, Encoded, Job, Made, Refused, Work
from chitram.images.adapters.renderer.thumbnails import thumbnails
from chitram.images.domain.image import ImageFormat

# From so many pixels on it is worth the time that it takes to ask for the memory again.
_LARGE = 16_000_000
_libc = ctypes.CDLL(None)


def main() -> None:
    """Answer jobs until the pool closes the socket."""
    serve(Limits, Job, _warm_up, answer_for)


def _warm_up(_: Limits) -> None:
    tiny = simplejpeg.encode_jpeg(np.zeros((8, 8, 3), np.uint8))
    for work in Work:
        job = Job(work=work, format=ImageFormat.JPEG, size=len(tiny), width=8, height=8, orientation=1)
        render(tiny, job)


def answer_for(descriptor: int, job: Job, _: Limits) -> Answer:
    """Render an open file, and keep no memory for the next that this one alone has needed."""
    try:
        return _answer_for(descriptor, job)
    finally:
        if job.width * job.height > _LARGE:
            _give_back_memory()


def _answer_for(descriptor: int, job: Job) -> Answer:
    try:
        with mmap.mmap(descriptor, job.size, access=mmap.ACCESS_READ) as data:
            return Made(render(data, job))
    except MemoryError as error:
        return Refused(reason="memory", cause=repr(error)[:200])
    except Exception as error:  # noqa: BLE001 - whatever hostile bytes provoke is a refusal of these bytes
        return Refused(reason="corrupt", cause=repr(error)[:200])


def _give_back_memory() -> None:
    """Have the allocator return what is free to the system; one that has no call for it does so anyway."""
    if trim := getattr(_libc, "malloc_trim", None):
        trim(0)


def render(data: Source, job: Job) -> list[Encoded]:
    """Make what a job asks for of an original; raises what the libraries raise."""
    with Original(data, job.format) as original:
        if original.size != (job.width, job.height):
            raise ValueError(f"the picture has {original.size} pixels")
        make = thumbnails if job.work is Work.THUMBNAILS else optimised
        return make(original, job.orientation)


if __name__ == "__main__":
    main()

"""The pool of decoders: the adapter behind the port `Inspector`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from copy import copy
from typing import Literal, Self

import structlog

from chitram.images.adapters.children.frames import ProtocolError
from chitram.images.adapters.children.lines import Answered, Line, Lines, NotBegun, Turn
from chitram.images.adapters.children.pool import ChildPool
from chitram.images.adapters.children.process import Child, ChildGone, ChildNotStarted, Program
from chitram.images.adapters.children.spool import ReadOnlySpool
from chitram.images.adapters.decoder.protocol import (
    MAX_FRAME_BYTES,
    Accepted,
    Answer,
    Job,
    Refused,
    Terms,
    read_answer,
    verify,
)
from chitram.images.adapters.decoder.refusals import as_error, over_limits
from chitram.images.domain.content import Inspection, Piece, Received, Slice
from chitram.images.domain.errors import CorruptImage, UploadCapacityExceeded
from chitram.images.domain.image import ImageFormat
from chitram.images.domain.patience import waiting

_log = structlog.get_logger("chitram.decoder")

# Against slow leaks in native libraries; a new decoder costs 0.2 s of a processor.
IMAGES_PER_DECODER = 5000
# An image whose decoder died gets one more: the first may have died of something else.
_ATTEMPTS = 2
# An image that waited behind others whose decoders died is told to come again after so many of them.
_LOSSES = 5
# Images that a decoder is told of at once: it needs 2 ms for a small one, and a busy event loop 25 ms
# until it sees that (docs/benchmarks/tried/mixed.md).
_TOLD_AT_ONCE = 8
# Hashing so much takes the event loop less time than waking a thread.
_HASHED_AT_ONCE_BYTES = 256 * 1024
# Who answers requests goes first: beside one of them a decoder gets a quarter of a processor. Less
# would let large images run out of DECODE_SECONDS on a busy machine.
NICENESS = 5


class DecoderPool:
    """Examines uploads in confined child processes, at most `size` of them, each one image after the other.

    Args:
        size: how many images are examined at once.
        decode_seconds: time for one image, of the clock and of a processor.
        memory_bytes: address space of a decoder. It takes 120 MB by itself; of 50 megapixels a
            progressive JPEG takes 300 MB more, 410 MB in four inks, anything else less than 20 MB.
        wait_seconds: how long an image waits for a decoder before it is turned away, when it is
            not part of a request that has a patience of its own.
        max_pixels: width times height that is accepted.
        allowed_formats: names of the formats that are accepted.
        metadata_policy: whether what tells about people and places is removed or kept.
    """

    def __init__(
        self,
        *,
        size: int,
        decode_seconds: float,
        memory_bytes: int,
        wait_seconds: float,
        max_pixels: int,
        allowed_formats: Iterable[str],
        metadata_policy: Literal["strip", "keep"],
    ) -> None:
        self._terms = Terms(
            memory_bytes=memory_bytes,
            cpu_seconds=decode_seconds,
            niceness=NICENESS,
            max_pixels=max_pixels,
            allowed_formats=tuple(ImageFormat(each) for each in allowed_formats),
            keep_metadata=metadata_policy == "keep",
        )
        self._decode_seconds = decode_seconds
        self._wait_seconds = wait_seconds
        program = Program("decoder", "chitram.images.adapters.decoder.child", self._terms)
        self._children = ChildPool(program, size=size, jobs_per_child=IMAGES_PER_DECODER)
        self._lines = Lines(self._children, jobs_per_child=IMAGES_PER_DECODER, most=MAX_FRAME_BYTES)
        self._places = asyncio.Semaphore(size * _TOLD_AT_ONCE)

    async def start(self) -> None:
        """Have one decoder ready and the others soon; raises `ChildNotStarted` for the operator."""
        await self._children.start()

    async def aclose(self) -> None:
        """End every decoder; images under examination are turned away."""
        await self._children.aclose()

    async def inspect(self, received: Received) -> Inspection:
        """Decide what an upload is, prove it whole and plan what to store; see the port's errors.

        The caller may be cancelled: its image is examined to the end all the same, so that the
        decoder is in a known state, and the answer forgotten.
        """
        with await self._place() as place, ReadOnlySpool.of(received) as spool:
            answer, pieces = await self._examine(spool, place)
            place.give_back()
            size = sum(each.length if isinstance(each, Slice) else len(each) for each in pieces)
            # Hashed here and not by the decoder: images are told apart by it.
            if spool.is_whole(pieces) or size <= _HASHED_AT_ONCE_BYTES:
                digest = spool.digest(pieces)
            else:
                digest = await asyncio.to_thread(spool.digest, pieces)
        return Inspection(
            format=answer.format,
            width=answer.width,
            height=answer.height,
            pieces=pieces,
            size=size,
            sha256=digest,
        )

    async def _place(self) -> _Place:
        if self._children.closed:
            raise UploadCapacityExceeded
        if self._places.locked():
            async with waiting(self._wait_seconds):
                await self._places.acquire()
        else:
            await self._places.acquire()
        return _Place(self._places)

    async def _examine(self, spool: ReadOnlySpool, place: _Place) -> tuple[Accepted, tuple[Piece, ...]]:
        """Return a decoder's answer, held against what can be true."""
        for _ in range(_ATTEMPTS):
            try:
                answer, pieces = await self._ask(spool, place)
            except ChildNotStarted as error:
                raise UploadCapacityExceeded("No decoder could be started. Try again shortly.") from error
            except ChildGone as error:
                if self._children.closed:
                    raise UploadCapacityExceeded("The server is being stopped. Try again shortly.") from None
                _log.warning("decoder_gone", exit_status=error.exit_status, bytes=spool.size)
                if error.used_up:
                    raise over_limits() from error
            except TimeoutError as error:
                _log.warning("decoder_timed_out", seconds=self._decode_seconds, bytes=spool.size)
                raise over_limits() from error
            except ProtocolError as error:
                _log.error("decoder_answer_refused", error=str(error), bytes=spool.size)
                raise CorruptImage from error
            else:
                if isinstance(answer, Refused):
                    raise self._refusal(answer)
                return answer, pieces
        raise CorruptImage("The image cannot be decoded: the decoder does not survive it.")

    async def _ask(self, spool: ReadOnlySpool, place: _Place) -> tuple[Answer, tuple[Piece, ...]]:
        """Ask until a decoder has come to this image."""
        for _ in range(_LOSSES):
            with contextlib.suppress(NotBegun):
                return await self._ask_one(spool, place)
            if self._children.closed:
                break
        raise UploadCapacityExceeded

    async def _ask_one(self, spool: ReadOnlySpool, place: _Place) -> tuple[Answer, tuple[Piece, ...]]:
        line, turn = await self._lines.join(Job(spool.size), spool.fileno())
        try:
            answer = read_answer(await self._said(line, turn))
            pieces = verify(answer, spool.size, self._terms) if isinstance(answer, Accepted) else ()
        except (asyncio.CancelledError, UploadCapacityExceeded):
            self._children.to_the_end(self._see_out(line, turn, place.handed_over()))
            raise
        except NotBegun:
            raise
        except BaseException:
            if turn.result() is Turn.COME:
                await self._lines.lose(line)
            else:
                # It is at another image by now, or idle; in either case it gets no further one.
                line.child.interrupt()
            raise
        if turn.result() is Turn.COME:
            self._lines.answered(line)
        return answer, pieces

    async def _said(self, line: Line, turn: Answered) -> bytes:
        """Wait for the answer of a decoder; raises `NotBegun`."""
        if not turn.done():
            async with waiting(self._wait_seconds):
                await asyncio.wait((turn,))
        said = turn.result()
        if said is Turn.LOST:
            raise NotBegun
        return await self._answer(line.child) if said is Turn.COME else said

    async def _answer(self, decoder: Child) -> bytes:
        async with asyncio.timeout(self._decode_seconds):
            return await decoder.answer(MAX_FRAME_BYTES)

    async def _see_out(self, line: Line, turn: Answered, place: _Place) -> None:
        """Wait for an answer that nobody wants any more, so that the decoder is in a known state."""
        with place:
            if await turn is not Turn.COME:
                return
            try:
                await self._answer(line.child)
            except (ChildGone, ProtocolError, TimeoutError):
                await self._lines.lose(line)
            except BaseException:
                await self._lines.lose(line)
                raise
            else:
                self._lines.answered(line)

    def _refusal(self, answer: Refused) -> Exception:
        if answer.unexpected:
            _log.warning("decoder_error", error=answer.unexpected)
        return as_error(answer, self._terms)


class _Place:
    """A place behind a decoder, given back once: by whoever holds it last."""

    def __init__(self, places: asyncio.Semaphore) -> None:
        self._places: asyncio.Semaphore | None = places

    def give_back(self) -> None:
        """Let another have it, if it is still held here."""
        if self._places is not None:
            self._places.release()
            self._places = None

    def handed_over(self) -> _Place:
        """Let go of it without giving it back; who gets what is returned has it now."""
        other = copy(self)
        self._places = None
        return other

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.give_back()

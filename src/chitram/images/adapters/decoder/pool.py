"""The pool of decoders: the adapter behind the port `Inspector`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from copy import copy
from typing import Literal, Self

import structlog

from chitram.images.adapters.children.frames import ProtocolError
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
# Hashing so much takes the event loop less time than waking a thread.
_HASHED_AT_ONCE_BYTES = 256 * 1024
# Who answers requests goes first: beside one of them a decoder gets a quarter of a processor. Less
# would let large images run out of DECODE_SECONDS on a busy machine.
NICENESS = 5


class DecoderPool:
    """Examines uploads in confined child processes, at most `size` of them, one image in each.

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
        with await self._slot() as slot, ReadOnlySpool.of(received) as spool:
            answer, pieces = await self._examine(spool, slot)
            slot.give_back()
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

    async def _slot(self) -> _Slot:
        self._refuse_when_closed()
        if self._children.slots.locked():
            async with waiting(self._wait_seconds):
                await self._children.slots.acquire()
        else:
            await self._children.slots.acquire()
        slot = _Slot(self._children)
        try:
            self._refuse_when_closed()
        except UploadCapacityExceeded:
            slot.give_back()
            raise
        return slot

    def _refuse_when_closed(self) -> None:
        if self._children.closed:
            raise UploadCapacityExceeded("The server is being stopped. Try again shortly.")

    async def _examine(self, spool: ReadOnlySpool, slot: _Slot) -> tuple[Accepted, tuple[Piece, ...]]:
        """Return a decoder's answer, held against what can be true."""
        for _ in range(_ATTEMPTS):
            try:
                answer, pieces = await self._ask(spool, slot)
            except ChildNotStarted as error:
                raise UploadCapacityExceeded("No decoder could be started. Try again shortly.") from error
            except ChildGone as error:
                self._refuse_when_closed()
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

    async def _ask(self, spool: ReadOnlySpool, slot: _Slot) -> tuple[Answer, tuple[Piece, ...]]:
        decoder = await self._children.take()
        try:
            decoder.tell(Job(spool.size), spool.fileno())
            answer = read_answer(await self._answer(decoder))
            pieces = verify(answer, spool.size, self._terms) if isinstance(answer, Accepted) else ()
        except asyncio.CancelledError:
            self._children.to_the_end(self._see_out(decoder, slot.handed_over()))
            raise
        except BaseException:
            await self._children.end(decoder)
            raise
        self._children.give_back(decoder)
        return answer, pieces

    async def _answer(self, decoder: Child) -> bytes:
        try:
            async with asyncio.timeout(self._decode_seconds):
                return await decoder.answer(MAX_FRAME_BYTES)
        except TimeoutError:
            # It may have come while the event loop was held up, and lie unread.
            async with asyncio.timeout(0):
                return await decoder.answer(MAX_FRAME_BYTES)

    async def _see_out(self, decoder: Child, slot: _Slot) -> None:
        """Wait for an answer that nobody wants any more, so that the decoder is in a known state."""
        with slot:
            try:
                await self._answer(decoder)
            except (ChildGone, ProtocolError, TimeoutError):
                await self._children.end(decoder)
            except BaseException:
                await self._children.end(decoder)
                raise
            else:
                self._children.give_back(decoder)

    def _refusal(self, answer: Refused) -> Exception:
        if answer.unexpected:
            _log.warning("decoder_error", error=answer.unexpected)
        return as_error(answer, self._terms)


class _Slot:
    """One of the pool's slots, given back once: by whoever holds it last."""

    def __init__(self, children: ChildPool) -> None:
        self._children: ChildPool | None = children

    def give_back(self) -> None:
        """Let another have it, if it is still held here."""
        if self._children is not None:
            self._children.give_slot_back()
            self._children = None

    def handed_over(self) -> _Slot:
        """Let go of it without giving it back; who gets what is returned has it now."""
        other = copy(self)
        self._children = None
        return other

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.give_back()

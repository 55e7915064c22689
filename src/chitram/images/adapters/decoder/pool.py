"""The pool of decoders: the adapter behind the port `Inspector`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine, Iterable
from typing import Any, Literal

import structlog

from chitram.images.adapters.decoder.process import Decoder, DecoderGone, DecoderNotStarted
from chitram.images.adapters.decoder.protocol import Accepted, ProtocolError, Refused, Terms, verify
from chitram.images.adapters.decoder.refusals import as_error, over_limits
from chitram.images.adapters.decoder.spool import ReadOnlySpool
from chitram.images.domain.content import Inspection, Piece, Received, Slice
from chitram.images.domain.errors import CorruptImage, UploadCapacityExceeded
from chitram.images.domain.image import ImageFormat
from chitram.images.domain.patience import waiting

_log = structlog.get_logger("chitram.decoder")

# Against slow leaks in native libraries; a new decoder costs 0.2 s of a processor.
IMAGES_PER_DECODER = 500
# An image whose decoder died gets one more: the first may have died of something else.
_ATTEMPTS = 2


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
            max_pixels=max_pixels,
            allowed_formats=tuple(ImageFormat(each) for each in allowed_formats),
            keep_metadata=metadata_policy == "keep",
        )
        self._decode_seconds = decode_seconds
        self._wait_seconds = wait_seconds
        # Whoever holds a slot may have a decoder; idle decoders and held slots are `size` at most.
        self._slots = asyncio.Semaphore(size)
        self._idle: list[Decoder] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self._leaving: set[asyncio.Task[None]] = set()
        self._closed = False

    async def start(self) -> None:
        """Have one decoder ready; raises `DecoderNotStarted` with the reason for the operator."""
        self._idle.append(await Decoder.start(self._terms))

    async def aclose(self) -> None:
        """End every decoder; images under examination are turned away."""
        self._closed = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for decoder in self._idle:
            self._dismiss(decoder)
        self._idle.clear()
        await asyncio.gather(*self._leaving)

    async def inspect(self, received: Received) -> Inspection:
        """Decide what an upload is, prove it whole and plan what to store; see the port's errors.

        The caller may be cancelled: its image is examined to the end all the same, so that the
        decoder is in a known state, and the answer forgotten.
        """
        await self._take_slot()
        try:
            spool = ReadOnlySpool.of(received)
        except BaseException:
            self._slots.release()
            raise
        task = self._in_background(self._inspect(spool))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise UploadCapacityExceeded("The server is being stopped. Try again shortly.") from None
            raise

    async def _take_slot(self) -> None:
        if self._closed:
            raise UploadCapacityExceeded
        async with waiting(self._wait_seconds):
            await self._slots.acquire()

    async def _inspect(self, spool: ReadOnlySpool) -> Inspection:
        with spool:
            try:
                answer, pieces = await self._examine(spool)
            finally:
                self._give_slot_back()
            # Hashed here and not by the decoder: images are told apart by it.
            digest = await asyncio.to_thread(spool.digest, pieces)
            size = sum(each.length if isinstance(each, Slice) else len(each) for each in pieces)
        return Inspection(
            format=answer.format,
            width=answer.width,
            height=answer.height,
            pieces=pieces,
            size=size,
            sha256=digest,
        )

    async def _examine(self, spool: ReadOnlySpool) -> tuple[Accepted, tuple[Piece, ...]]:
        """Return a decoder's answer, held against what can be true."""
        for _ in range(_ATTEMPTS):
            try:
                async with self._lent() as decoder, asyncio.timeout(self._decode_seconds):
                    answer = await decoder.examine(spool.fileno(), spool.size)
                    pieces = verify(answer, spool.size, self._terms) if isinstance(answer, Accepted) else ()
            except DecoderGone as error:
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

    def _refusal(self, answer: Refused) -> Exception:
        if answer.unexpected:
            _log.warning("decoder_error", error=answer.unexpected)
        return as_error(answer, self._terms)

    @contextlib.asynccontextmanager
    async def _lent(self) -> AsyncIterator[Decoder]:
        """Lend a decoder to the holder of a slot. After an error nobody gets it again."""
        decoder = await self._idle_or_new()
        try:
            yield decoder
        except BaseException:
            await decoder.kill()
            raise
        if decoder.served < IMAGES_PER_DECODER:
            self._idle.append(decoder)
        else:
            self._dismiss(decoder)

    def _dismiss(self, decoder: Decoder) -> None:
        """Let a decoder end by itself, which nobody waits for before `aclose`."""
        task = asyncio.create_task(decoder.stop())
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def _idle_or_new(self) -> Decoder:
        while self._idle:
            decoder = self._idle.pop()
            if decoder.is_usable():
                return decoder
            _log.warning("decoder_lost", pid=decoder.pid)
            await decoder.kill()
        try:
            return await Decoder.start(self._terms)
        except DecoderNotStarted as error:
            _log.error("decoder_not_started", error=str(error))
            raise UploadCapacityExceeded("No decoder could be started. Try again shortly.") from error

    def _give_slot_back(self) -> None:
        """Free a slot, once a decoder is ready again if the last one went."""
        if self._idle or self._closed:
            self._slots.release()
        else:
            self._in_background(self._renew())

    async def _renew(self) -> None:
        try:
            self._idle.append(await Decoder.start(self._terms))
        except DecoderNotStarted as error:
            _log.error("decoder_not_started", error=str(error))
        finally:
            self._slots.release()

    def _in_background(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

"""Doing an upload once, however often it is asked for under one idempotency key."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec

from chitram.images.domain.errors import IdempotencyInProgress, IdempotencyKeyReused
from chitram.images.domain.idempotency import KEY_LIFE, LEASE, IdempotencyKey
from chitram.images.ports import AnswerSealer, Transactions
from chitram.images.use_cases.held_key import HeldKey
from chitram.images.use_cases.upload_image import UploadedImage
from chitram.kernel.clock import Clock
from chitram.kernel.errors import DatabaseUnavailable
from chitram.kernel.ids import new_id

_RENEW_SECONDS = LEASE.total_seconds() / 3
# Between two looks at a key that was let go in between.
_ROUNDS = 5

Work = Callable[[HeldKey | None], Awaitable[UploadedImage]]


class Once:
    """Lets one request at a time work under a key, and answers repeats as the first was answered.

    Only success is kept: whatever else comes of the work frees the key, and so does the end of the
    process, when its lease is over.

    Raises `IdempotencyKeyReused` for a key that was used for something else, and
    `IdempotencyInProgress` while another request works under it.
    """

    def __init__(self, transactions: Transactions, sealer: AnswerSealer, clock: Clock) -> None:
        self._transactions = transactions
        self._sealer = sealer
        self._clock = clock

    async def __call__(self, key: IdempotencyKey | None, digest: bytes, work: Work) -> UploadedImage:
        """Do the work, or say what came of it before.

        Args:
            key: None to do the work in any case.
            digest: of everything that was asked for.
            work: has to settle the key that it is given.
        """
        if key is None:
            return await work(None)
        held = HeldKey(key, new_id(self._clock.now()), self._sealer)
        if answer := await self._claim(held, digest):
            return answer
        try:
            async with self._renewing(held):
                return await work(held)
        except BaseException:
            # It stays when the work was settled after all, as the answer to a commit may be lost.
            with contextlib.suppress(DatabaseUnavailable):
                await self._free(held)
            raise

    async def _claim(self, held: HeldKey, digest: bytes) -> UploadedImage | None:
        """Get the key for this request, or the answer to the one that had it before."""
        for _ in range(_ROUNDS):
            async with self._transactions.begin() as transaction:
                if await transaction.keys.claim(
                    held.key.hash, digest, held.lease, lease_for=LEASE, life=KEY_LIFE
                ):
                    await transaction.commit()
                    return None
                found = await transaction.keys.get(held.key.hash)
            if found is None:
                continue
            if found.request_digest != digest:
                raise IdempotencyKeyReused
            if found.sealed_answer is None:
                raise IdempotencyInProgress
            answer = msgspec.json.decode(self._sealer.open(found.sealed_answer, held.key), type=UploadedImage)
            return msgspec.structs.replace(answer, replayed=True)
        raise IdempotencyInProgress

    @contextlib.asynccontextmanager
    async def _renewing(self, held: HeldKey) -> AsyncIterator[None]:
        renewal = asyncio.create_task(self._renew(held))
        try:
            yield
        finally:
            renewal.cancel()

    async def _renew(self, held: HeldKey) -> None:
        while True:
            await asyncio.sleep(_RENEW_SECONDS)
            with contextlib.suppress(DatabaseUnavailable):
                async with self._transactions.begin() as transaction:
                    await transaction.keys.renew(held.key.hash, held.lease, lease_for=LEASE)
                    await transaction.commit()

    async def _free(self, held: HeldKey) -> None:
        async with self._transactions.begin() as transaction:
            await transaction.keys.free(held.key.hash, held.lease)
            await transaction.commit()

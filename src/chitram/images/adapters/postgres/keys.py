"""Idempotency keys inside one PostgreSQL transaction, by its clock."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from sqlalchemy import and_, delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from chitram.images.adapters.postgres.rows import IdempotencyKeyRow
from chitram.images.domain.idempotency import KeyRecord

_Row = IdempotencyKeyRow


class PostgresKeys:
    """Idempotency keys inside one transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def claim(
        self, key_hash: bytes, request_digest: bytes, lease: UUID, *, lease_for: timedelta, life: timedelta
    ) -> bool:
        now = func.clock_timestamp()
        fresh = {
            "request_digest": request_digest,
            "lease": lease,
            "leased_until": now + lease_for,
            "image_id": None,
            "sealed_answer": None,
            "created_at": now,
            "expires_at": now + life,
        }
        abandoned = and_(_Row.image_id.is_(None), _Row.leased_until <= now)
        claimed = await self._session.scalar(
            insert(_Row)
            .values(key_hash=key_hash, **fresh)
            .on_conflict_do_update(
                index_elements=[_Row.key_hash], set_=fresh, where=or_(abandoned, _Row.expires_at <= now)
            )
            .returning(_Row.key_hash)
        )
        return claimed is not None

    async def get(self, key_hash: bytes) -> KeyRecord | None:
        found = select(_Row.request_digest, _Row.sealed_answer).where(_Row.key_hash == key_hash)
        row = (await self._session.execute(found)).first()
        if row is None:
            return None
        return KeyRecord(row.request_digest, row.sealed_answer)

    async def renew(self, key_hash: bytes, lease: UUID, *, lease_for: timedelta) -> None:
        await self._session.execute(
            update(_Row)
            .where(_Row.key_hash == key_hash, _Row.lease == lease, _Row.image_id.is_(None))
            .values(leased_until=func.clock_timestamp() + lease_for)
        )

    async def settle(
        self, key_hash: bytes, lease: UUID, image_id: UUID, sealed_answer: bytes, *, life: timedelta
    ) -> bool:
        settled = await self._session.scalar(
            update(_Row)
            .where(_Row.key_hash == key_hash, _Row.lease == lease, _Row.image_id.is_(None))
            .values(image_id=image_id, sealed_answer=sealed_answer, expires_at=func.clock_timestamp() + life)
            .returning(_Row.key_hash)
        )
        return settled is not None

    async def free(self, key_hash: bytes, lease: UUID) -> None:
        await self._session.execute(
            delete(_Row).where(_Row.key_hash == key_hash, _Row.lease == lease, _Row.image_id.is_(None))
        )

    async def forget(self, image_id: UUID) -> None:
        await self._session.execute(delete(_Row).where(_Row.image_id == image_id))

    async def forget_expired(self, limit: int) -> int:
        some = (
            select(_Row.key_hash)
            # No index is of use for what is compared with a clock that goes on.
            .where(_Row.expires_at <= func.now())
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        forgotten = await self._session.scalars(
            delete(_Row).where(_Row.key_hash.in_(some)).returning(_Row.key_hash)
        )
        return len(forgotten.all())

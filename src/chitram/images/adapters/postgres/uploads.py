"""Direct uploads inside one PostgreSQL transaction."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from chitram.images.adapters.postgres.rows import UploadRow, row_of_upload, upload_from
from chitram.images.domain.upload import Upload


class PostgresUploads:
    """Direct uploads inside one transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def get(self, upload_id: UUID) -> Upload | None:
        row = await self._session.get(UploadRow, upload_id)
        return upload_from(row) if row is not None else None

    async def add(self, upload: Upload) -> None:
        self._session.add(row_of_upload(upload))

    async def complete(self, upload_id: UUID, image_id: UUID) -> bool:
        completed = await self._session.scalar(
            update(UploadRow)
            .where(UploadRow.id == upload_id, UploadRow.image_id.is_(None))
            .values(image_id=image_id)
            .returning(UploadRow.id)
        )
        return completed is not None

    async def ended(self, before: datetime, after: UUID, limit: int) -> Sequence[Upload]:
        rows = await self._session.scalars(
            select(UploadRow)
            .where(UploadRow.expires_at <= before, UploadRow.id > after)
            .order_by(UploadRow.id)
            .limit(limit)
        )
        return [upload_from(row) for row in rows]

    async def known(self, upload_ids: Sequence[UUID]) -> set[UUID]:
        return set(await self._session.scalars(select(UploadRow.id).where(UploadRow.id.in_(upload_ids))))

    async def remove(self, upload_id: UUID) -> None:
        await self._session.execute(delete(UploadRow).where(UploadRow.id == upload_id))

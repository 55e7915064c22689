"""Renditions inside one PostgreSQL transaction."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from chitram.images.adapters.postgres.rows import RenditionRow, rendition_from, row_of_rendition
from chitram.images.domain.rendition import Rendition, RenditionSort


class PostgresRenditions:
    """Renditions inside one transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def of(self, blob_id: UUID) -> Sequence[Rendition]:
        rows = await self._session.scalars(select(RenditionRow).where(RenditionRow.blob_id == blob_id))
        return [rendition_from(row) for row in rows]

    async def replace(self, blob_id: UUID, sort: RenditionSort, made: Sequence[Rendition]) -> None:
        await self._session.execute(
            delete(RenditionRow).where(
                RenditionRow.blob_id == blob_id, RenditionRow.kind.in_([kind.value for kind in sort.kinds])
            )
        )
        self._session.add_all(map(row_of_rendition, made))
        await self._session.flush()

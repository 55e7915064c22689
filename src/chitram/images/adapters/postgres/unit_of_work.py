"""Images, blobs and outbox in one PostgreSQL transaction."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Self
from uuid import UUID

from sqlalchemy import BindParameter, delete, exists, func, literal, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from chitram.images.adapters.postgres.first_images import add_first, find_live
from chitram.images.adapters.postgres.keys import PostgresKeys
from chitram.images.adapters.postgres.renditions import PostgresRenditions, begin_making, record_made
from chitram.images.adapters.postgres.rows import (
    BlobRow,
    ImageRow,
    blob_from,
    image_from,
    row_of_blob,
    row_of_image,
)
from chitram.images.adapters.postgres.uploads import PostgresUploads
from chitram.images.domain.image import Blob, BlobState, Image
from chitram.images.domain.rendition import Processing, RenditionSort
from chitram.images.ports import BegunMaking, LiveBlobExists, MadeRenditions, Recorded, StaleBlob
from chitram.kernel.ids import id_time
from chitram.platform.database import SqlUnitOfWork, violated_constraint
from chitram.platform.outbox import Relay
from chitram.platform.statements import Statements

_RECIPES = {
    RenditionSort.THUMBNAILS: BlobRow.thumbnails_recipe,
    RenditionSort.OPTIMISED: BlobRow.optimised_recipe,
}
# Written out: a plan that is made once for all values cannot use the indexes of live blobs otherwise.
_IS_LIVE = BlobRow.state == literal(BlobState.LIVE.value, literal_execute=True)


def _written_out(recipe: int | None) -> BindParameter[int] | None:
    """A recipe as part of the statement: how many are of an older one, PostgreSQL knows by its statistics."""
    return None if recipe is None else literal(recipe, literal_execute=True)


class PostgresUnitOfWork(SqlUnitOfWork):
    """One transaction over the tables of images."""

    images: PostgresImages
    blobs: PostgresBlobs
    renditions: PostgresRenditions
    uploads: PostgresUploads
    keys: PostgresKeys

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self.images = PostgresImages(self.session)
        self.blobs = PostgresBlobs(self.session)
        self.renditions = PostgresRenditions(self.session)
        self.uploads = PostgresUploads(self.session)
        self.keys = PostgresKeys(self.session)
        return self


class PostgresTransactions:
    """Begins transactions on the primary, or does those that are most frequent in one round trip."""

    def __init__(
        self, sessions: async_sessionmaker[AsyncSession], relay: Relay, statements: Statements
    ) -> None:
        self._sessions = sessions
        self._relay = relay
        self._statements = statements

    def begin(self) -> PostgresUnitOfWork:
        return PostgresUnitOfWork(self._sessions, self._relay)

    async def find_live(self, sha256: bytes) -> Blob | None:
        return await find_live(self._statements, sha256)

    async def add_first(self, blob: Blob, image: Image, *, newer_than: timedelta) -> None:
        now = datetime.now(UTC)
        entry = await add_first(self._statements, blob, image, newer_than=newer_than, now=now)
        self._relay.notify([entry])

    async def begin_making(
        self, entry_id: UUID, blob_id: UUID, sort: RenditionSort, *, clear_after: timedelta | None
    ) -> BegunMaking | None:
        return await begin_making(self._statements, entry_id, blob_id, sort, clear_after)

    async def record_made(self, made: MadeRenditions) -> Recorded:
        recorded, owed = await record_made(self._statements, made)
        if owed is not None:
            self._relay.notify([owed])
        return recorded


class PostgresBlobs:
    """Blobs inside one transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def get(self, blob_id: UUID) -> Blob | None:
        row = await self._session.get(BlobRow, blob_id)
        return blob_from(row) if row is not None else None

    async def lock(self, blob_id: UUID) -> Blob | None:
        row = await self._session.get(BlobRow, blob_id, with_for_update=True, populate_existing=True)
        return blob_from(row) if row is not None else None

    async def add(self, blob: Blob, *, newer_than: timedelta) -> None:
        now = (await self._session.execute(select(func.clock_timestamp()))).scalar_one()
        if now - id_time(blob.id) > newer_than:
            raise StaleBlob
        self._session.add(row_of_blob(blob))
        try:
            await self._session.flush()
        except IntegrityError as error:
            if violated_constraint(error) == "uq_blobs_live_sha256":
                raise LiveBlobExists from error
            raise

    async def mark_deleting(self, blob_id: UUID) -> None:
        await self._session.execute(
            update(BlobRow).where(BlobRow.id == blob_id).values(state=BlobState.DELETING.value)
        )

    async def place(self, blob_id: UUID, shard: str) -> None:
        await self._session.execute(update(BlobRow).where(BlobRow.id == blob_id).values(shard=shard))

    async def remove(self, blob_id: UUID) -> None:
        await self._session.execute(delete(BlobRow).where(BlobRow.id == blob_id))

    async def without_dimensions(self, after: UUID, limit: int) -> Sequence[Blob]:
        rows = await self._session.scalars(
            select(BlobRow)
            .where(BlobRow.id > after, BlobRow.width.is_(None), _IS_LIVE)
            .order_by(BlobRow.id)
            .limit(limit)
        )
        return [blob_from(row) for row in rows]

    async def set_dimensions(self, blob_id: UUID, width: int, height: int) -> None:
        await self._session.execute(
            update(BlobRow).where(BlobRow.id == blob_id).values(width=width, height=height)
        )

    async def set_verified(self, blob_id: UUID, at: datetime, *, is_intact: bool) -> None:
        damaged_at = None if is_intact else func.coalesce(BlobRow.damaged_at, at)
        await self._session.execute(
            update(BlobRow).where(BlobRow.id == blob_id).values(verified_at=at, damaged_at=damaged_at)
        )

    async def set_processing(self, blob_id: UUID, processing: Processing) -> None:
        await self._session.execute(
            update(BlobRow).where(BlobRow.id == blob_id).values(processing=processing.value)
        )

    async def set_recipe(self, blob_id: UUID, sort: RenditionSort, recipe: int | None) -> None:
        await self._session.execute(
            update(BlobRow).where(BlobRow.id == blob_id).values({_RECIPES[sort]: recipe})
        )

    async def outdated(self, after: UUID, limit: int) -> Sequence[Blob]:
        found: dict[UUID, BlobRow] = {}
        for sort, column in _RECIPES.items():
            # One by one each is a range of an index in order; together they are half of the table.
            for recipe in (None, *range(sort.recipe)):
                rows = await self._session.scalars(
                    select(BlobRow)
                    .where(_IS_LIVE, column == _written_out(recipe), BlobRow.id > after)
                    .order_by(column, BlobRow.id)
                    .limit(limit)
                )
                found |= {row.id: row for row in rows}
        return [blob_from(found[blob_id]) for blob_id in sorted(found)[:limit]]

    async def least_verified(self, shards: Collection[str], limit: int) -> Sequence[Blob]:
        rows = await self._session.scalars(
            select(BlobRow)
            .where(_IS_LIVE, BlobRow.shard.in_(shards))
            .order_by(BlobRow.verified_at.asc().nulls_first(), BlobRow.id)
            .limit(limit)
        )
        return [blob_from(row) for row in rows]


class PostgresImages:
    """Images inside one transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def get(self, image_id: UUID) -> Image | None:
        row = await self._session.get(ImageRow, image_id)
        return image_from(row) if row is not None else None

    async def lock(self, image_id: UUID) -> Image | None:
        row = await self._session.get(ImageRow, image_id, with_for_update=True, populate_existing=True)
        return image_from(row) if row is not None else None

    async def add(self, image: Image) -> None:
        self._session.add(row_of_image(image))

    async def update(self, image: Image) -> None:
        await self._session.execute(
            update(ImageRow)
            .where(ImageRow.id == image.id)
            .values(
                filename=image.filename,
                visibility=image.visibility.value,
                version=image.version,
                updated_at=image.updated_at,
            )
        )

    async def remove(self, image_id: UUID) -> bool:
        removed = await self._session.scalar(
            delete(ImageRow).where(ImageRow.id == image_id).returning(ImageRow.id)
        )
        return removed is not None

    async def is_shown(self, blob_id: UUID) -> bool:
        return bool(await self._session.scalar(select(exists().where(ImageRow.blob_id == blob_id))))

    async def touch(self, blob_id: UUID, limit: int) -> Sequence[tuple[UUID, int]]:
        # In any order, for by id it would go through images of others too.
        some = select(ImageRow.id).where(ImageRow.blob_id == blob_id).limit(limit)
        touched = await self._session.execute(
            update(ImageRow)
            .where(ImageRow.id.in_(some))
            .values(version=ImageRow.version + 1)
            .returning(ImageRow.id, ImageRow.version)
        )
        return [(row.id, row.version) for row in touched]

    async def expired(self, now: datetime, limit: int) -> Sequence[UUID]:
        ids = await self._session.scalars(
            select(ImageRow.id).where(ImageRow.expires_at <= now).order_by(ImageRow.expires_at).limit(limit)
        )
        return list(ids)

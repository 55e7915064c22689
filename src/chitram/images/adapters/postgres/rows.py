"""The tables of images, and how a row and an entity become each other."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import asyncpg
from advanced_alchemy.base import DefaultBase
from sqlalchemy import BigInteger, ForeignKey, Index, Integer, SmallInteger, Text, func, text
from sqlalchemy.dialects.postgresql import BYTEA, INET, TIMESTAMP
from sqlalchemy.dialects.postgresql import UUID as PG_UUID
from sqlalchemy.orm import Mapped, mapped_column

from chitram.images.domain.image import Blob, BlobState, Image, ImageFormat, Visibility
from chitram.images.domain.rendition import Processing, Rendition, RenditionFormat, RenditionKind
from chitram.images.domain.upload import Upload


class BlobRow(DefaultBase):
    """One generation of stored bytes."""

    __tablename__ = "blobs"

    id: Mapped[UUID] = mapped_column(PG_UUID(as_uuid=True), primary_key=True)
    sha256: Mapped[bytes] = mapped_column(BYTEA)
    byte_size: Mapped[int] = mapped_column(BigInteger)
    format: Mapped[str] = mapped_column(Text)
    width: Mapped[int | None] = mapped_column(Integer)
    height: Mapped[int | None] = mapped_column(Integer)
    shard: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(TIMESTAMP(timezone=True), server_default=func.now())
    processing: Mapped[str] = mapped_column(Text, server_default="pending")
    thumbnails_recipe: Mapped[int | None] = mapped_column(SmallInteger)
    optimised_recipe: Mapped[int | None] = mapped_column(SmallInteger)
    verified_at: Mapped[datetime | None] = mapped_column(TIMESTAMP(timezone=True))
    damaged_at: Mapped[datetime | None] = mapped_column(TIMESTAMP(timezone=True))

    __table_args__ = (
        Index("uq_blobs_live_sha256", "sha256", unique=True, postgresql_where=text("state = 'live'")),
        Index("ix_blobs_without_dimensions", "id", postgresql_where=text("width IS NULL AND state = 'live'")),
        Index("ix_blobs_shard_id", "shard", "id"),
        *(
            Index(f"ix_blobs_{recipe}", recipe, "id", postgresql_where=text("state = 'live'"))
            for recipe in ("thumbnails_recipe", "optimised_recipe")
        ),
        Index(
            "ix_blobs_verified_at",
            text("verified_at NULLS FIRST"),
            "id",
            postgresql_where=text("state = 'live'"),
        ),
        Index("ix_blobs_damaged_at", "damaged_at", postgresql_where=text("damaged_at IS NOT NULL")),
    )


class RenditionRow(DefaultBase):
    """One rendition of a blob."""

    __tablename__ = "renditions"

    blob_id: Mapped[UUID] = mapped_column(
        PG_UUID(as_uuid=True),
        ForeignKey("blobs.id", name="fk_renditions_blob_id_blobs", ondelete="CASCADE"),
        primary_key=True,
    )
    kind: Mapped[str] = mapped_column(Text, primary_key=True)
    recipe: Mapped[int] = mapped_column(SmallInteger)
    format: Mapped[str] = mapped_column(Text)
    width: Mapped[int] = mapped_column(Integer)
    height: Mapped[int] = mapped_column(Integer)
    byte_size: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[bytes] = mapped_column(BYTEA)
    created_at: Mapped[datetime] = mapped_column(TIMESTAMP(timezone=True), server_default=func.now())


class ImageRow(DefaultBase):
    """What a person uploaded."""

    __tablename__ = "images"

    id: Mapped[UUID] = mapped_column(PG_UUID(as_uuid=True), primary_key=True)
    blob_id: Mapped[UUID] = mapped_column(
        PG_UUID(as_uuid=True), ForeignKey("blobs.id", name="fk_images_blob_id_blobs")
    )
    owner_id: Mapped[UUID | None] = mapped_column(PG_UUID(as_uuid=True))
    filename: Mapped[str] = mapped_column(Text)
    visibility: Mapped[str] = mapped_column(Text)
    delete_token_hash: Mapped[bytes | None] = mapped_column(BYTEA)
    delete_token_expires_at: Mapped[datetime | None] = mapped_column(TIMESTAMP(timezone=True))
    expires_at: Mapped[datetime | None] = mapped_column(TIMESTAMP(timezone=True))
    upload_address: Mapped[str | None] = mapped_column(INET)
    created_at: Mapped[datetime] = mapped_column(TIMESTAMP(timezone=True))
    updated_at: Mapped[datetime] = mapped_column(TIMESTAMP(timezone=True))
    version: Mapped[int] = mapped_column(Integer, server_default="1")

    __table_args__ = (
        Index("ix_images_blob_id", "blob_id"),
        Index("ix_images_owner_id_id", "owner_id", "id", postgresql_where=text("owner_id IS NOT NULL")),
        Index("ix_images_expires_at", "expires_at", postgresql_where=text("expires_at IS NOT NULL")),
    )


class UploadRow(DefaultBase):
    """A direct upload: begun, and completed once `image_id` is set."""

    __tablename__ = "uploads"

    id: Mapped[UUID] = mapped_column(PG_UUID(as_uuid=True), primary_key=True)
    owner_id: Mapped[UUID | None] = mapped_column(PG_UUID(as_uuid=True))
    token_hash: Mapped[bytes | None] = mapped_column(BYTEA)
    shard: Mapped[str] = mapped_column(Text)
    filename: Mapped[str | None] = mapped_column(Text)
    content_type: Mapped[str | None] = mapped_column(Text)
    visibility: Mapped[str] = mapped_column(Text)
    expires_in: Mapped[int | None] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(TIMESTAMP(timezone=True))
    expires_at: Mapped[datetime] = mapped_column(TIMESTAMP(timezone=True))
    image_id: Mapped[UUID | None] = mapped_column(PG_UUID(as_uuid=True))

    __table_args__ = (Index("ix_uploads_expires_at", "expires_at"),)


class IdempotencyKeyRow(DefaultBase):
    """A key under which an upload is done once."""

    __tablename__ = "idempotency_keys"

    key_hash: Mapped[bytes] = mapped_column(BYTEA, primary_key=True)
    request_digest: Mapped[bytes] = mapped_column(BYTEA)
    lease: Mapped[UUID] = mapped_column(PG_UUID(as_uuid=True))
    leased_until: Mapped[datetime] = mapped_column(TIMESTAMP(timezone=True))
    image_id: Mapped[UUID | None] = mapped_column(PG_UUID(as_uuid=True))
    sealed_answer: Mapped[bytes | None] = mapped_column(BYTEA)
    created_at: Mapped[datetime] = mapped_column(TIMESTAMP(timezone=True))
    expires_at: Mapped[datetime] = mapped_column(TIMESTAMP(timezone=True))

    __table_args__ = (
        Index("ix_idempotency_keys_expires_at", "expires_at"),
        Index("ix_idempotency_keys_image_id", "image_id", postgresql_where=text("image_id IS NOT NULL")),
    )


def blob_from(row: BlobRow) -> Blob:
    """Read a row as the domain sees it."""
    return Blob(
        id=row.id,
        sha256=row.sha256,
        byte_size=row.byte_size,
        format=ImageFormat(row.format),
        width=row.width,
        height=row.height,
        shard=row.shard,
        state=BlobState(row.state),
        processing=Processing(row.processing),
        thumbnails_recipe=row.thumbnails_recipe,
        optimised_recipe=row.optimised_recipe,
        is_damaged=row.damaged_at is not None,
    )


def blob_from_record(record: asyncpg.Record) -> Blob:
    """Read what a statement of our own selected of all columns of a row."""
    return Blob(
        id=record["id"],
        sha256=record["sha256"],
        byte_size=record["byte_size"],
        format=ImageFormat(record["format"]),
        width=record["width"],
        height=record["height"],
        shard=record["shard"],
        state=BlobState(record["state"]),
        processing=Processing(record["processing"]),
        thumbnails_recipe=record["thumbnails_recipe"],
        optimised_recipe=record["optimised_recipe"],
        is_damaged=record["damaged_at"] is not None,
    )


def row_of_blob(blob: Blob) -> BlobRow:
    """Write a new blob as a row."""
    return BlobRow(
        id=blob.id,
        sha256=blob.sha256,
        byte_size=blob.byte_size,
        format=blob.format.value,
        width=blob.width,
        height=blob.height,
        shard=blob.shard,
        state=blob.state.value,
        processing=blob.processing.value,
        thumbnails_recipe=blob.thumbnails_recipe,
        optimised_recipe=blob.optimised_recipe,
    )


def rendition_from(row: RenditionRow) -> Rendition:
    """Read a row as the domain sees it."""
    return Rendition(
        blob_id=row.blob_id,
        kind=RenditionKind(row.kind),
        recipe=row.recipe,
        format=RenditionFormat(row.format),
        width=row.width,
        height=row.height,
        byte_size=row.byte_size,
        sha256=row.sha256,
        created_at=row.created_at,
    )


def image_from(row: ImageRow) -> Image:
    """Read a row as the domain sees it."""
    return Image(
        id=row.id,
        blob_id=row.blob_id,
        owner_id=row.owner_id,
        filename=row.filename,
        visibility=Visibility(row.visibility),
        delete_token_hash=row.delete_token_hash,
        delete_token_expires_at=row.delete_token_expires_at,
        expires_at=row.expires_at,
        upload_address=str(row.upload_address) if row.upload_address is not None else None,
        created_at=row.created_at,
        updated_at=row.updated_at,
        version=row.version,
    )


def row_of_image(image: Image) -> ImageRow:
    """Write a new image as a row."""
    return ImageRow(
        id=image.id,
        blob_id=image.blob_id,
        owner_id=image.owner_id,
        filename=image.filename,
        visibility=image.visibility.value,
        delete_token_hash=image.delete_token_hash,
        delete_token_expires_at=image.delete_token_expires_at,
        expires_at=image.expires_at,
        upload_address=image.upload_address,
        created_at=image.created_at,
        updated_at=image.updated_at,
        version=image.version,
    )


def upload_from(row: UploadRow) -> Upload:
    """Read a row as the domain sees it."""
    return Upload(
        visibility=Visibility(row.visibility),
        id=row.id,
        shard=row.shard,
        owner_id=row.owner_id,
        token_hash=row.token_hash,
        filename=row.filename,
        content_type=row.content_type,
        expires_in=row.expires_in,
        created_at=row.created_at,
        expires_at=row.expires_at,
        image_id=row.image_id,
    )


def row_of_upload(upload: Upload) -> UploadRow:
    """Write a new direct upload as a row."""
    return UploadRow(
        visibility=upload.visibility.value,
        id=upload.id,
        shard=upload.shard,
        owner_id=upload.owner_id,
        token_hash=upload.token_hash,
        filename=upload.filename,
        content_type=upload.content_type,
        expires_in=upload.expires_in,
        created_at=upload.created_at,
        expires_at=upload.expires_at,
        image_id=upload.image_id,
    )

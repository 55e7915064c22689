"""Blobs, images and the outbox.

Revision: 0001, the first
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql as pg

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the change."""
    op.create_table(
        "blobs",
        sa.Column("id", pg.UUID(as_uuid=True), primary_key=True),
        sa.Column("sha256", pg.BYTEA(), nullable=False),
        sa.Column("byte_size", sa.BigInteger(), nullable=False),
        sa.Column("format", sa.Text(), nullable=False),
        sa.Column("shard", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("created_at", pg.TIMESTAMP(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.CheckConstraint("octet_length(sha256) = 32", name="ck_blobs_sha256_length"),
        sa.CheckConstraint("byte_size > 0", name="ck_blobs_byte_size_positive"),
        sa.CheckConstraint("state IN ('live', 'deleting')", name="ck_blobs_state"),
    )
    # At most one live generation of a content; any number of them may be on their way out.
    op.create_index(
        "uq_blobs_live_sha256", "blobs", ["sha256"], unique=True, postgresql_where=sa.text("state = 'live'")
    )
    op.create_table(
        "images",
        sa.Column("id", pg.UUID(as_uuid=True), primary_key=True),
        sa.Column("blob_id", pg.UUID(as_uuid=True), nullable=False),
        sa.Column("owner_id", pg.UUID(as_uuid=True)),
        sa.Column("filename", sa.Text(), nullable=False),
        sa.Column("visibility", sa.Text(), nullable=False),
        sa.Column("delete_token_hash", pg.BYTEA()),
        sa.Column("delete_token_expires_at", pg.TIMESTAMP(timezone=True)),
        sa.Column("expires_at", pg.TIMESTAMP(timezone=True)),
        sa.Column("upload_address", pg.INET()),
        sa.Column("created_at", pg.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("updated_at", pg.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.ForeignKeyConstraint(["blob_id"], ["blobs.id"], name="fk_images_blob_id_blobs"),
        sa.CheckConstraint("octet_length(filename) BETWEEN 1 AND 255", name="ck_images_filename_length"),
        sa.CheckConstraint("visibility IN ('public', 'unlisted', 'private')", name="ck_images_visibility"),
    )
    op.create_index("ix_images_blob_id", "images", ["blob_id"])
    op.create_index(
        "ix_images_owner_id_id",
        "images",
        ["owner_id", "id"],
        postgresql_where=sa.text("owner_id IS NOT NULL"),
    )
    op.create_index(
        "ix_images_expires_at", "images", ["expires_at"], postgresql_where=sa.text("expires_at IS NOT NULL")
    )
    op.create_table(
        "outbox",
        sa.Column("id", pg.UUID(as_uuid=True), primary_key=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("payload", pg.JSONB(), nullable=False),
        sa.Column("created_at", pg.TIMESTAMP(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.Column("run_after", pg.TIMESTAMP(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.Column("enqueued_at", pg.TIMESTAMP(timezone=True)),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("last_error", sa.Text()),
        sa.Column("dead_at", pg.TIMESTAMP(timezone=True)),
    )
    op.create_index(
        "ix_outbox_kind_run_after",
        "outbox",
        ["kind", "run_after"],
        postgresql_where=sa.text("dead_at IS NULL"),
    )
    # Work on one blob is found by its payload when the blob goes.
    op.create_index(
        "ix_outbox_payload",
        "outbox",
        ["payload"],
        postgresql_using="gin",
        postgresql_ops={"payload": "jsonb_path_ops"},
    )


def downgrade() -> None:
    """Take the change back; for tests, production only goes forward."""
    op.drop_table("outbox")
    op.drop_table("images")
    op.drop_table("blobs")

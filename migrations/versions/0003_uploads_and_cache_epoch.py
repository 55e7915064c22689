"""Direct uploads, the cache epoch, and finding the blobs of one store.

Revision: 0003, after 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql as pg

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the change."""
    op.create_table(
        "uploads",
        sa.Column("id", pg.UUID(as_uuid=True), primary_key=True),
        sa.Column("owner_id", pg.UUID(as_uuid=True)),
        sa.Column("token_hash", pg.BYTEA()),
        sa.Column("shard", sa.Text(), nullable=False),
        sa.Column("filename", sa.Text()),
        sa.Column("content_type", sa.Text()),
        sa.Column("visibility", sa.Text(), nullable=False),
        sa.Column("expires_in", sa.BigInteger()),
        sa.Column("created_at", pg.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("expires_at", pg.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("image_id", pg.UUID(as_uuid=True)),
        sa.CheckConstraint("visibility IN ('public', 'unlisted', 'private')", name="visibility"),
        sa.CheckConstraint("(owner_id IS NULL) <> (token_hash IS NULL)", name="begun_by_someone"),
    )
    op.create_index("ix_uploads_expires_at", "uploads", ["expires_at"])
    op.create_table(
        "cache_epoch",
        sa.Column("singleton", sa.Boolean(), server_default=sa.text("true"), primary_key=True),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("singleton", name="singleton"),
    )
    op.execute("INSERT INTO cache_epoch (epoch) VALUES (1)")
    op.create_index("ix_blobs_shard_id", "blobs", ["shard", "id"])


def downgrade() -> None:
    """Take the change back; for tests, production only goes forward."""
    op.drop_index("ix_blobs_shard_id", "blobs")
    op.drop_table("cache_epoch")
    op.drop_table("uploads")

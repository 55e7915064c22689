"""Width and height of blobs, null until a job has read them from rows of before.

Revision: 0002, after 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the change."""
    op.add_column("blobs", sa.Column("width", sa.Integer()))
    op.add_column("blobs", sa.Column("height", sa.Integer()))
    op.create_index(
        "ix_blobs_without_dimensions",
        "blobs",
        ["id"],
        postgresql_where=sa.text("width IS NULL AND state = 'live'"),
    )


def downgrade() -> None:
    """Take the change back; for tests, production only goes forward."""
    op.drop_index("ix_blobs_without_dimensions", "blobs")
    op.drop_column("blobs", "height")
    op.drop_column("blobs", "width")

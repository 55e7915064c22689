"""Indexes for what is looked for among many rows and is rare among them.

Revision: 0005, after 0004
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the change."""
    op.create_index(
        "ix_blobs_damaged_at", "blobs", ["damaged_at"], postgresql_where=sa.text("damaged_at IS NOT NULL")
    )
    op.create_index("ix_outbox_dead", "outbox", ["id"], postgresql_where=sa.text("dead_at IS NOT NULL"))
    # What is told of one subject is read newest first.
    op.drop_index("ix_audit_log_subject", "audit_log")
    op.create_index("ix_audit_log_subject_id", "audit_log", ["subject", "id"])


def downgrade() -> None:
    """Take the change back; for tests, production only goes forward."""
    op.drop_index("ix_audit_log_subject_id", "audit_log")
    op.create_index("ix_audit_log_subject", "audit_log", ["subject"])
    op.drop_index("ix_outbox_dead", "outbox")
    op.drop_index("ix_blobs_damaged_at", "blobs")

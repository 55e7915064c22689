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
    """Apply the change, while others read and write: millions of rows take seconds.

    Nothing of it is undone where it is ended half-way; it can be done again.
    """
    with op.get_context().autocommit_block():
        # The lock that this waits for keeps nobody from reading or writing.
        op.execute("SET lock_timeout = 0")
        _create("ix_blobs_damaged_at", "blobs", ["damaged_at"], "damaged_at IS NOT NULL")
        _create("ix_outbox_dead", "outbox", ["id"], "dead_at IS NOT NULL")
        # What is told of one subject is read newest first.
        _create("ix_audit_log_subject_id", "audit_log", ["subject", "id"])
        _drop("ix_audit_log_subject", "audit_log")
        op.execute("SET lock_timeout = '5s'")


def downgrade() -> None:
    """Take the change back; for tests, production only goes forward."""
    op.drop_index("ix_audit_log_subject_id", "audit_log")
    op.create_index("ix_audit_log_subject", "audit_log", ["subject"])
    op.drop_index("ix_outbox_dead", "outbox")
    op.drop_index("ix_blobs_damaged_at", "blobs")


def _create(name: str, table: str, columns: list[str], where: str | None = None) -> None:
    # One that was not ended is in the way, and of no use.
    _drop(name, table)
    op.create_index(
        name,
        table,
        columns,
        postgresql_where=sa.text(where) if where else None,
        postgresql_concurrently=True,
    )


def _drop(name: str, table: str) -> None:
    op.drop_index(name, table, if_exists=True, postgresql_concurrently=True)

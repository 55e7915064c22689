"""Accounts, renditions, idempotency keys, the processing of blobs, and who works on what.

Revision: 0004, after 0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql as pg

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def _id(name: str = "id") -> sa.Column[object]:
    return sa.Column(name, pg.UUID(as_uuid=True), primary_key=True)


def _time(name: str, *, nullable: bool = False, default: bool = False) -> sa.Column[object]:
    now = sa.func.now() if default else None
    return sa.Column(name, pg.TIMESTAMP(timezone=True), server_default=now, nullable=nullable)


def _accounts() -> None:
    op.create_table(
        "users",
        _id(),
        sa.Column("email", sa.Text(), nullable=False),
        # What makes two addresses the same, whatever their case.
        sa.Column("email_key", sa.Text(), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=False),
        sa.Column("is_active", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.Column("is_admin", sa.Boolean(), server_default=sa.false(), nullable=False),
        # Null: as the settings say. Zero: without a limit.
        sa.Column("quota_bytes", sa.BigInteger()),
        sa.Column("quota_images", sa.BigInteger()),
        sa.Column("used_bytes", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("used_images", sa.BigInteger(), server_default="0", nullable=False),
        _time("created_at"),
        _time("updated_at"),
        sa.UniqueConstraint("email_key", name="uq_users_email_key"),
        sa.CheckConstraint("used_bytes >= 0 AND used_images >= 0", name="used_not_negative"),
    )
    # One sign-in and all that it was renewed by: the family of its refresh tokens.
    op.create_table(
        "sessions",
        _id(),
        sa.Column("user_id", pg.UUID(as_uuid=True), nullable=False),
        _time("created_at"),
        _time("last_used_at"),
        _time("expires_at"),
        _time("revoked_at", nullable=True),
        # A keyed hash of where somebody signed in from, who knew the password.
        sa.Column("origin", sa.Text()),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name="fk_sessions_user_id_users", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_sessions_user_id", "sessions", ["user_id"])
    op.create_index("ix_sessions_expires_at", "sessions", ["expires_at"])
    op.create_index(
        "ix_sessions_revoked_at",
        "sessions",
        ["revoked_at"],
        postgresql_where=sa.text("revoked_at IS NOT NULL"),
    )
    op.create_table(
        "refresh_tokens",
        sa.Column("token_hash", pg.BYTEA(), primary_key=True),
        sa.Column("session_id", pg.UUID(as_uuid=True), nullable=False),
        _time("created_at"),
        _time("used_at", nullable=True),
        sa.ForeignKeyConstraint(
            ["session_id"], ["sessions.id"], name="fk_refresh_tokens_session_id_sessions", ondelete="CASCADE"
        ),
        sa.CheckConstraint("octet_length(token_hash) = 32", name="token_hash_length"),
    )
    op.create_index("ix_refresh_tokens_session_id", "refresh_tokens", ["session_id"])
    op.create_index(
        "ix_refresh_tokens_used_at",
        "refresh_tokens",
        ["used_at"],
        postgresql_where=sa.text("used_at IS NOT NULL"),
    )
    op.create_table(
        "api_keys",
        _id(),
        sa.Column("user_id", pg.UUID(as_uuid=True), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("key_hash", pg.BYTEA(), nullable=False),
        # What the owner is shown of the key later, to know it by.
        sa.Column("hint", sa.Text(), nullable=False),
        sa.Column("scopes", pg.ARRAY(sa.Text()), nullable=False),
        _time("created_at"),
        _time("expires_at", nullable=True),
        _time("last_used_at", nullable=True),
        sa.UniqueConstraint("key_hash", name="uq_api_keys_key_hash"),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name="fk_api_keys_user_id_users", ondelete="CASCADE"
        ),
        sa.CheckConstraint("octet_length(key_hash) = 32", name="key_hash_length"),
    )
    op.create_index("ix_api_keys_user_id_id", "api_keys", ["user_id", "id"])
    op.create_table(
        "audit_log",
        _id(),
        _time("at", default=True),
        sa.Column("actor_id", pg.UUID(as_uuid=True)),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("details", pg.JSONB(), server_default=sa.text("'{}'"), nullable=False),
    )
    op.create_index("ix_audit_log_subject", "audit_log", ["subject"])


def _renditions() -> None:
    op.create_table(
        "renditions",
        sa.Column("blob_id", pg.UUID(as_uuid=True), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("recipe", sa.SmallInteger(), nullable=False),
        sa.Column("format", sa.Text(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("byte_size", sa.BigInteger(), nullable=False),
        sa.Column("sha256", pg.BYTEA(), nullable=False),
        _time("created_at", default=True),
        sa.PrimaryKeyConstraint("blob_id", "kind", name="pk_renditions"),
        sa.ForeignKeyConstraint(
            ["blob_id"], ["blobs.id"], name="fk_renditions_blob_id_blobs", ondelete="CASCADE"
        ),
        sa.CheckConstraint(
            "kind IN ('small', 'medium', 'large', 'optimised', 'optimised_webp')", name="kind"
        ),
        sa.CheckConstraint("octet_length(sha256) = 32", name="sha256_length"),
        sa.CheckConstraint("byte_size > 0", name="byte_size_positive"),
    )
    op.add_column("blobs", sa.Column("processing", sa.Text(), server_default="pending", nullable=False))
    op.create_check_constraint("processing", "blobs", "processing IN ('pending', 'ready', 'failed')")
    # The recipe that the renditions of each sort were made by last; null before the first.
    op.add_column("blobs", sa.Column("thumbnails_recipe", sa.SmallInteger()))
    op.add_column("blobs", sa.Column("optimised_recipe", sa.SmallInteger()))
    # When the stored bytes were last read and proved, and since when they are known to be damaged.
    op.add_column("blobs", sa.Column("verified_at", pg.TIMESTAMP(timezone=True)))
    op.add_column("blobs", sa.Column("damaged_at", pg.TIMESTAMP(timezone=True)))
    live = sa.text("state = 'live'")
    op.create_index("ix_blobs_thumbnails_recipe", "blobs", ["thumbnails_recipe", "id"], postgresql_where=live)
    op.create_index("ix_blobs_optimised_recipe", "blobs", ["optimised_recipe", "id"], postgresql_where=live)
    op.create_index(
        "ix_blobs_verified_at", "blobs", [sa.text("verified_at NULLS FIRST"), "id"], postgresql_where=live
    )


def _idempotency_keys() -> None:
    op.create_table(
        "idempotency_keys",
        # Of the principal and the key, so that nobody meets the key of another.
        sa.Column("key_hash", pg.BYTEA(), primary_key=True),
        # Of what was received and asked for.
        sa.Column("request_digest", pg.BYTEA(), nullable=False),
        # Whoever has the lease works on it; afterwards another may.
        sa.Column("lease", pg.UUID(as_uuid=True), nullable=False),
        _time("leased_until"),
        sa.Column("image_id", pg.UUID(as_uuid=True)),
        # The first answer with its delete token, readable by whoever has the key.
        sa.Column("sealed_answer", pg.BYTEA()),
        _time("created_at"),
        _time("expires_at"),
        sa.CheckConstraint("octet_length(key_hash) = 32", name="key_hash_length"),
    )
    op.create_index("ix_idempotency_keys_expires_at", "idempotency_keys", ["expires_at"])
    op.create_index(
        "ix_idempotency_keys_image_id",
        "idempotency_keys",
        ["image_id"],
        postgresql_where=sa.text("image_id IS NOT NULL"),
    )


def _background() -> None:
    op.add_column("outbox", sa.Column("failures", sa.Integer(), server_default="0", nullable=False))
    # The worker that is at it, and until when that is believed without hearing of it again.
    op.add_column("outbox", sa.Column("leased_by", pg.UUID(as_uuid=True)))
    op.add_column("outbox", sa.Column("leased_until", pg.TIMESTAMP(timezone=True)))
    # What is done by the clock, each by one of all workers.
    op.create_table(
        "rounds",
        sa.Column("name", sa.Text(), primary_key=True),
        _time("next_at"),
        sa.Column("leased_by", pg.UUID(as_uuid=True)),
        _time("leased_until", nullable=True),
        _time("done_at", nullable=True),
        sa.Column("last_error", sa.Text()),
    )


def upgrade() -> None:
    """Apply the change."""
    _background()
    _accounts()
    _renditions()
    _idempotency_keys()


def downgrade() -> None:
    """Take the change back; for tests, production only goes forward."""
    op.drop_table("rounds")
    for column in ("leased_until", "leased_by", "failures"):
        op.drop_column("outbox", column)
    op.drop_table("idempotency_keys")
    for index in ("verified_at", "optimised_recipe", "thumbnails_recipe"):
        op.drop_index(f"ix_blobs_{index}", "blobs")
    for column in ("damaged_at", "verified_at", "optimised_recipe", "thumbnails_recipe", "processing"):
        op.drop_column("blobs", column)
    for table in ("renditions", "audit_log", "api_keys", "refresh_tokens", "sessions", "users"):
        op.drop_table(table)

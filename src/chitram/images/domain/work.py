"""Kinds of outbox work that images owe, and the names of what their payloads hold."""

from __future__ import annotations

DELETE_BLOB = "blob.delete"
# Thumbnails; the optimised renditions follow by work of their own.
MAKE_RENDITIONS = "blob.renditions"
OPTIMISE = "blob.optimise"
# An object that its blob's row does not name (any more) has to go, some time after it was owed.
DROP_COPY = "blob.drop_copy"
# Nothing that was kept of a removed image may be shown any more.
PURGE_IMAGE = "image.purge"
BLOB_ID = "blob_id"
IMAGE_ID = "image_id"
SHARD = "shard"

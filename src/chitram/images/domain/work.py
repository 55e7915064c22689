"""Kinds of outbox work that images owe, and the names of what their payloads hold."""

from __future__ import annotations

DELETE_BLOB = "blob.delete"
MAKE_RENDITIONS = "blob.renditions"
BLOB_ID = "blob_id"

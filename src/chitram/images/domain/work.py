"""Kinds of outbox work that images owe, and the names of what their payloads hold."""

from __future__ import annotations

DELETE_BLOB = "blob.delete"
# Thumbnails; the optimised renditions follow by work of their own.
MAKE_RENDITIONS = "blob.renditions"
OPTIMISE = "blob.optimise"
# As above, for blobs that have been in order so far; whoever waits for new ones goes first.
REMAKE_RENDITIONS = "blob.remake"
REOPTIMISE = "blob.reoptimise"
# Renditions are being put in a store. Unless that ends well, what a removed blob has left there goes.
CLEAR_RENDITIONS = "blob.clear_renditions"
# Objects of renditions that others have taken the place of have to go, once nobody knows them.
DROP_RENDITIONS = "blob.drop_renditions"
# An object that its blob's row does not name (any more) has to go, some time after it was owed.
DROP_COPY = "blob.drop_copy"
# Nothing that was kept of a removed image may be shown any more, of a changed one nothing older than
# the version that the payload names.
PURGE_IMAGE = "image.purge"
BLOB_ID = "blob_id"
IMAGE_ID = "image_id"
SHARD = "shard"
# Ends of keys, with spaces between them.
NAMES = "names"
VERSION = "version"

"""Copies of a blob's object in stores that its row does not name: when and how they go.

A move leaves the old object for a while, for whoever still reads it; a move or an upload that
loses a race leaves a new one. Each is owed to the outbox as a `blob.drop_copy`, and as long as
that is undone no move brings the blob to that store. It is done `drop_after` later, when a copy
that was begun before can no longer be committed: a copy is never committed after `longest_copy`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from uuid import UUID

import msgspec

from chitram.images.domain.work import BLOB_ID, DROP_COPY, SHARD
from chitram.images.ports import ImagesUnitOfWork


class CopyRules(msgspec.Struct, frozen=True, kw_only=True):
    """How long copies stay.

    Attributes:
        drop_after: longer than caches keep what a row said, a signed address of a store lives and a
            client may take to read, in sum: until then the old place is as good as the new.
        longest_copy: well below `drop_after`, which counts from the beginning of a transaction and not
            from its end, and at most half of reconcile's grace, after which an object without a row
            may be taken for abandoned.
    """

    drop_after: timedelta
    longest_copy: timedelta


async def owe_drop(transaction: ImagesUnitOfWork, blob_id: UUID, shard: str, rules: CopyRules) -> None:
    """Owe the removal of a blob's copy in `shard`, once; the blob's row is locked by the caller."""
    payload = copy_of(blob_id, shard)
    if not await transaction.outbox.owes(payload, DROP_COPY):
        await transaction.outbox.add(DROP_COPY, payload, delay=rules.drop_after)


def copy_of(blob_id: UUID, shard: str) -> Mapping[str, str]:
    """The payload of a copy's removal."""
    return {BLOB_ID: str(blob_id), SHARD: shard}

"""`chitram admin trace`: everything that is left of an image, wherever it may be."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec
from dishka import AsyncContainer
from valkey.asyncio import Valkey
from valkey.exceptions import ValkeyError

from chitram.delivery.adapters.metadata_cache.tracing import Holds, cached_keys
from chitram.images.domain.image import BlobState
from chitram.images.domain.work import BLOB_ID, IMAGE_ID
from chitram.images.ports import BlobStore, Quarantine
from chitram.images.queries import BlobTrace, ImageTrace, Traces
from chitram.kernel.errors import StorageUnavailable
from chitram.platform.database import Reader
from chitram.platform.owed import Owed, owed_to
from chitram.platform.settings import Settings
from chitram.platform.shared_cache.epoch import KnownEpoch

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 - it has no public name


def add_to(commands: Subparsers) -> None:
    """Make the command known."""
    trace = commands.add_parser("trace", help="show what is left of an image, by its id or that of its blob")
    trace.set_defaults(command=_show)
    trace.add_argument("id", type=UUID)


class Findings(msgspec.Struct):
    """What was found of an id.

    Attributes:
        lines: what to show, in the order of the search.
        left: how much of it should not be there any more if the image is gone.
    """

    lines: list[str] = []
    left: int = 0

    def add(self, line: str, *, left: bool = True) -> None:
        self.lines.append(line)
        self.left += left


async def _show(container: AsyncContainer, given: argparse.Namespace) -> int:
    traces, found = await container.get(Traces), Findings()
    image = await traces.image(given.id)
    owed = await _owed(container, given.id)
    blob_id = image.blob_id or _blob_of(owed) or given.id
    owed |= await _owed(container, blob_id)
    blob = await traces.blob(blob_id)
    _tell_rows(found, image, blob)
    await _tell_objects(found, container, blob_id, blob)
    await _tell_quarantine(found, container, {given.id, *image.uploads})
    for entry in owed.values():
        _tell_owed(found, entry, image, blob)
    await _tell_caches(found, container, given.id)
    is_there = image.blob_id is not None or (blob is not None and blob.id == given.id and blob.images > 0)
    _conclude(found, is_there=is_there)
    return 1 if found.left and not is_there else 0


def _conclude(found: Findings, *, is_there: bool) -> None:
    if not is_there:
        found.add(f"left of it: {found.left}" if found.left else "nothing is left", left=False)
    sys.stdout.write("\n".join(found.lines) + "\n")


async def _owed(container: AsyncContainer, subject: UUID) -> dict[UUID, Owed]:
    reader = await container.get(Reader)
    return {
        entry.id: entry
        for name in (IMAGE_ID, BLOB_ID)
        for entry in await owed_to(reader, {name: str(subject)})
    }


def _blob_of(owed: dict[UUID, Owed]) -> UUID | None:
    """The blob of a removed image, as long as its removal is owed."""
    named = [entry.payload[BLOB_ID] for entry in owed.values() if BLOB_ID in entry.payload]
    return UUID(named[0]) if named else None


def _tell_rows(found: Findings, image: ImageTrace, blob: BlobTrace | None) -> None:
    if image.blob_id is not None:
        owner = f"owner {image.owner_id}" if image.owner_id else "nobody's"
        found.add(f"image: {image.visibility}, {owner}, of {image.created_at:%Y-%m-%dT%H:%M:%SZ}")
    if image.has_key:
        found.add("idempotency key: leads to it")
    for upload_id in image.uploads:
        found.add(f"direct upload: {upload_id}")
    if blob is not None:
        damage = f", damaged since {blob.damaged_at:%Y-%m-%d}" if blob.damaged_at else ""
        found.add(
            f"blob: {blob.id}, {blob.state}, in {blob.shard}, shown by images: {blob.images}, "
            f"processing: {blob.processing}{damage}",
            left=not _is_shown(blob),
        )
        for name in blob.renditions:
            found.add(f"  rendition: {name}", left=not _is_shown(blob))


def _is_shown(blob: BlobTrace | None) -> bool:
    """Whether other images show the blob, so that it is not left of this one."""
    return blob is not None and blob.state == BlobState.LIVE and blob.images > 0


async def _tell_objects(
    found: Findings, container: AsyncContainer, blob_id: UUID, blob: BlobTrace | None
) -> None:
    blobs = await container.get(BlobStore)
    for shard in blobs.shards:
        try:
            size = await blobs.size(blob_id, shard)
            renditions = await blobs.renditions(blob_id, shard)
        except StorageUnavailable as error:
            found.add(f"objects in {shard}: cannot be asked: {error.message}")
            continue
        objects = ({} if size is None else {"original": size}) | {**renditions}
        for name, length in objects.items():
            found.add(f"object in {shard}: {name}, {length} bytes", left=not _is_shown(blob))


async def _tell_quarantine(found: Findings, container: AsyncContainer, ids: set[UUID]) -> None:
    quarantine = await container.get(Quarantine)
    for shard in quarantine.shards:
        try:
            async for each in quarantine.list(shard):
                if each.upload_id in ids:
                    found.add(f"quarantine in {shard}: {each.upload_id}, {each.size} bytes")
        except StorageUnavailable as error:
            found.add(f"quarantine in {shard}: cannot be asked: {error.message}")


def _tell_owed(found: Findings, entry: Owed, image: ImageTrace, blob: BlobTrace | None) -> None:
    state = f"given up: {entry.last_error}" if entry.dead_at else f"due {entry.run_after:%Y-%m-%dT%H:%M:%SZ}"
    is_of_others = IMAGE_ID not in entry.payload and _is_shown(blob) and image.blob_id is None
    found.add(f"owed: {entry.kind}, {state}, attempts: {entry.attempts}", left=not is_of_others)


async def _tell_caches(found: Findings, container: AsyncContainer, image_id: UUID) -> None:
    """Only what is read now is left; what an earlier epoch had is out of sight and ends by itself."""
    if not (await container.get(Settings)).valkey_url:
        found.add("caches: not asked, for CHITRAM_VALKEY_URL is empty", left=False)
        return
    epoch = await (await container.get(KnownEpoch)).read()
    try:
        keys = await cached_keys(await container.get(Valkey), image_id)
    except (ValkeyError, OSError) as error:
        found.add(f"caches: cannot be asked: {type(error).__name__}")
        return
    for key in keys:
        when = "" if key.epoch == epoch else ", out of sight"
        found.add(
            f"cached: {key.holds}, for {key.milliseconds} ms{when}",
            left=key.holds is Holds.VALUE and key.epoch == epoch,
        )

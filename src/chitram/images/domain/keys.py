"""Where in an object store the bytes of a blob lie, and those that nobody has checked yet."""

from __future__ import annotations

from uuid import UUID

from chitram.images.domain.rendition import RenditionKind

# What a key begins with: a blob, a rendition of one, something that nobody has checked.
BLOBS = "blobs/"
RENDITIONS = "renditions/"
QUARANTINE = "quarantine/"


def blob_key(blob_id: UUID) -> str:
    """Key of a blob's object: never anything a user wrote.

    The folder comes from the random end of the id; its beginning is the time, so that it would
    put everything of one day into one folder.
    """
    text = str(blob_id)
    return f"{BLOBS}{text[-2:]}/{text}"


def blob_of_key(key: str) -> UUID | None:
    """Id of the blob that an object belongs to, or None for an object that is not ours."""
    try:
        blob_id = UUID(key.rpartition("/")[2])
    except ValueError:
        return None
    return blob_id if blob_key(blob_id) == key else None


def rendition_key(blob_id: UUID, kind: RenditionKind, recipe: int) -> str:
    """Key of a rendition's object. It never holds anything but what this recipe makes of this blob."""
    return f"{renditions_prefix(blob_id)}{rendition_name(kind, recipe)}"


def rendition_name(kind: RenditionKind, recipe: int) -> str:
    """How the key of a rendition's object ends, which tells it from the others of its blob."""
    return f"{kind.value}-{recipe}"


def renditions_prefix(blob_id: UUID) -> str:
    """What the keys of all renditions of a blob begin with, of whatever recipe."""
    text = str(blob_id)
    return f"{RENDITIONS}{text[-2:]}/{text}/"


def blob_of_rendition_key(key: str) -> UUID | None:
    """Id of the blob that a rendition's object belongs to, or None for an object that is none."""
    try:
        blob_id = UUID(key.rpartition("/")[0].rpartition("/")[2])
    except ValueError:
        return None
    return blob_id if key.startswith(renditions_prefix(blob_id)) else None


def quarantine_key(upload_id: UUID) -> str:
    """Key under which the bytes of a direct upload wait for their check."""
    return f"{QUARANTINE}{upload_id}"


def upload_of_key(key: str) -> UUID | None:
    """Id of the direct upload that an object belongs to, or None for an object that is not ours."""
    try:
        upload_id = UUID(key.removeprefix(QUARANTINE))
    except ValueError:
        return None
    return upload_id if quarantine_key(upload_id) == key else None

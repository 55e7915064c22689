"""Where in an object store the bytes of a blob lie."""

from __future__ import annotations

from uuid import UUID

_FOLDER = "blobs"


def blob_key(blob_id: UUID) -> str:
    """Key of a blob's object: never anything a user wrote.

    The folder comes from the random end of the id; its beginning is the time, so that it would
    put everything of one day into one folder.
    """
    text = str(blob_id)
    return f"{_FOLDER}/{text[-2:]}/{text}"


def blob_of_key(key: str) -> UUID | None:
    """Id of the blob that an object belongs to, or None for an object that is not ours."""
    try:
        blob_id = UUID(key.rpartition("/")[2])
    except ValueError:
        return None
    return blob_id if blob_key(blob_id) == key else None

"""What uploads answer with."""

from __future__ import annotations

from typing import TypeVar

import msgspec
from litestar import Response

from chitram.images.public import ImageBody, image_body, image_path
from chitram.images.queries import view_of
from chitram.images.use_cases.upload_image import UploadedImage
from chitram.platform.http.errors import ErrorDetail

_Body = TypeVar("_Body", bound="UploadBody")


class UploadBody(ImageBody, frozen=True, kw_only=True):
    """A new image. `delete_token` is shown this once, and only for anonymous uploads."""

    delete_token: str | None = None


class BatchImageBody(UploadBody, frozen=True, kw_only=True, tag_field="result", tag="accepted"):
    """A file of a batch that was accepted."""

    status: int = 201


class RefusedBody(msgspec.Struct, frozen=True, tag_field="result", tag="refused"):
    """A file of a batch that was refused: the status and error it would have had by itself."""

    status: int
    error: ErrorDetail


class BatchBody(msgspec.Struct, frozen=True):
    """One result for each file, in their order."""

    results: list[BatchImageBody | RefusedBody]


def created(uploaded: UploadedImage) -> Response[UploadBody]:
    """The answer to an upload; the same again for a repeat, but for a header field that says so."""
    headers = {"location": image_path(uploaded.image.id), "cache-control": "no-store"}
    if uploaded.replayed:
        headers["idempotency-replayed"] = "true"
    return Response(_with_token(UploadBody, uploaded), status_code=201, headers=headers)


def batch_item(uploaded: UploadedImage) -> BatchImageBody:
    """The result of one file of a batch."""
    return _with_token(BatchImageBody, uploaded)


def _with_token(kind: type[_Body], uploaded: UploadedImage) -> _Body:
    body = image_body(view_of(uploaded.image, uploaded.blob, uploaded.renditions))
    return kind(**msgspec.structs.asdict(body), delete_token=uploaded.delete_token)

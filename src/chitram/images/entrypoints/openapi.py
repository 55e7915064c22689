"""How the write side is described to clients: bodies that are parsed by hand, and refusals."""

from __future__ import annotations

from dataclasses import dataclass

from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import (
    OpenAPIFormat,
    OpenAPIMediaType,
    OpenAPIType,
    Operation,
    RequestBody,
    Schema,
)
from litestar.params import Parameter

from chitram.platform.http.openapi import RATE_LIMITED, refusal

IMAGE_ID = Parameter(description="Id of the image", schema_extra={"format": "uuid"})

UPLOAD_REFUSALS: dict[int, ResponseSpec] = {
    400: refusal("INVALID_REQUEST", "DIGEST_MISMATCH"),
    408: refusal("UPLOAD_TIMEOUT"),
    413: refusal("FILE_TOO_LARGE"),
    415: refusal("INVALID_FILE_FORMAT", "CONTENT_TYPE_MISMATCH"),
    422: refusal("IMAGE_TOO_LARGE", "CORRUPT_IMAGE"),
    429: RATE_LIMITED,
    503: refusal("UPLOAD_CAPACITY_EXCEEDED", "STORAGE_UNAVAILABLE", "DATABASE_UNAVAILABLE"),
}
DELETE_REFUSALS: dict[int, ResponseSpec] = {
    400: refusal("INVALID_REQUEST"),
    403: refusal("DELETE_TOKEN_REQUIRED", "INVALID_DELETE_TOKEN"),
    404: refusal("IMAGE_NOT_FOUND"),
    503: refusal("DATABASE_UNAVAILABLE"),
}

_BINARY = Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.BINARY)
_OPTIONS = {
    "visibility": Schema(type=OpenAPIType.STRING, enum=["public", "unlisted", "private"]),
    "expires_in": Schema(type=OpenAPIType.INTEGER, minimum=1, description="Seconds"),
}


def _form(files: dict[str, Schema]) -> RequestBody:
    schema = Schema(type=OpenAPIType.OBJECT, properties={**files, **_OPTIONS}, required=list(files))
    return RequestBody({"multipart/form-data": OpenAPIMediaType(schema=schema)}, required=True)


@dataclass
class MultipartUpload(Operation):
    """An operation whose body is a form with one file."""

    def __post_init__(self) -> None:
        self.request_body = _form({"file": _BINARY})


@dataclass
class BatchUpload(Operation):
    """An operation whose body is a form with many files."""

    def __post_init__(self) -> None:
        self.request_body = _form({"files": Schema(type=OpenAPIType.ARRAY, items=_BINARY)})


@dataclass
class RawUpload(Operation):
    """An operation whose body is the image itself."""

    def __post_init__(self) -> None:
        self.request_body = RequestBody(
            {name: OpenAPIMediaType(schema=_BINARY) for name in ("image/jpeg", "image/png")}, required=True
        )

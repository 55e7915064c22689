"""How the write side is described to clients: bodies that are parsed by hand, and refusals."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus

from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import (
    OpenAPIFormat,
    OpenAPIMediaType,
    OpenAPIType,
    Operation,
    RequestBody,
    Schema,
)
from litestar.params import HeaderParameter, Parameter

from chitram.platform.http.openapi import NOT_SIGNED_IN, RATE_LIMITED, json_request, refusal

IMAGE_ID = Parameter(description="Id of the image", schema_extra={"format": "uuid"})
UPLOAD_ID = Parameter(description="Id of the upload, not of an image", schema_extra={"format": "uuid"})

IDEMPOTENCY_KEY = HeaderParameter(
    name="Idempotency-Key",
    description="A repeat with the same key gets the first answer for 24 hours, and makes no other image. "
    "Without an account: a random UUID, or 22 or more random letters and digits",
)

# Credentials that are no good are refused wherever they are given.
UPLOAD_REFUSALS: dict[int, ResponseSpec] = {
    400: refusal("INVALID_REQUEST", "DIGEST_MISMATCH"),
    401: NOT_SIGNED_IN,
    403: refusal("QUOTA_EXCEEDED", "FORBIDDEN"),
    408: refusal("UPLOAD_TIMEOUT"),
    409: refusal("IDEMPOTENCY_KEY_REUSED", "IDEMPOTENCY_IN_PROGRESS"),
    413: refusal("FILE_TOO_LARGE"),
    415: refusal("INVALID_FILE_FORMAT", "CONTENT_TYPE_MISMATCH"),
    422: refusal("IMAGE_TOO_LARGE", "CORRUPT_IMAGE"),
    429: RATE_LIMITED,
    503: refusal("UPLOAD_CAPACITY_EXCEEDED", "STORAGE_UNAVAILABLE", "DATABASE_UNAVAILABLE"),
}
BATCH_REFUSALS = {status: spec for status, spec in UPLOAD_REFUSALS.items() if status != HTTPStatus.CONFLICT}
DELETE_REFUSALS: dict[int, ResponseSpec] = {
    400: refusal("INVALID_REQUEST"),
    401: NOT_SIGNED_IN,
    403: refusal("DELETE_TOKEN_REQUIRED", "INVALID_DELETE_TOKEN", "FORBIDDEN"),
    404: refusal("IMAGE_NOT_FOUND"),
    503: refusal("DATABASE_UNAVAILABLE"),
}
LIST_REFUSALS: dict[int, ResponseSpec] = {
    400: refusal("INVALID_REQUEST"),
    401: NOT_SIGNED_IN,
    403: refusal("FORBIDDEN"),
    429: RATE_LIMITED,
    503: refusal("DATABASE_UNAVAILABLE"),
}
CHANGE_REFUSALS: dict[int, ResponseSpec] = {
    400: refusal("INVALID_REQUEST"),
    401: NOT_SIGNED_IN,
    403: refusal("FORBIDDEN"),
    404: refusal("IMAGE_NOT_FOUND"),
    408: refusal("UPLOAD_TIMEOUT"),
    413: refusal("REQUEST_TOO_LARGE"),
    503: refusal("DATABASE_UNAVAILABLE"),
}
VERIFY_REFUSALS: dict[int, ResponseSpec] = {
    400: refusal("INVALID_REQUEST"),
    401: NOT_SIGNED_IN,
    403: refusal("FORBIDDEN"),
    404: refusal("IMAGE_NOT_FOUND"),
    429: RATE_LIMITED,
    503: refusal("UPLOAD_CAPACITY_EXCEEDED", "STORAGE_UNAVAILABLE", "DATABASE_UNAVAILABLE"),
}
BEGIN_REFUSALS: dict[int, ResponseSpec] = {
    400: refusal("INVALID_REQUEST"),
    401: NOT_SIGNED_IN,
    403: refusal("FORBIDDEN"),
    408: refusal("UPLOAD_TIMEOUT"),
    413: refusal("FILE_TOO_LARGE", "REQUEST_TOO_LARGE"),
    415: refusal("INVALID_FILE_FORMAT"),
    429: RATE_LIMITED,
    503: refusal("STORAGE_UNAVAILABLE", "DATABASE_UNAVAILABLE"),
}
CONTENT_REFUSALS: dict[int, ResponseSpec] = {
    400: refusal("INVALID_REQUEST"),
    403: refusal("INVALID_UPLOAD_ADDRESS"),
    404: refusal("UPLOAD_NOT_FOUND"),
    408: refusal("UPLOAD_TIMEOUT"),
    409: refusal("UPLOAD_ALREADY_COMPLETED"),
    413: refusal("FILE_TOO_LARGE"),
    429: RATE_LIMITED,
    503: refusal("UPLOAD_CAPACITY_EXCEEDED", "STORAGE_UNAVAILABLE", "DATABASE_UNAVAILABLE"),
}
COMPLETE_REFUSALS: dict[int, ResponseSpec] = {
    **UPLOAD_REFUSALS,
    403: refusal("UPLOAD_TOKEN_REQUIRED", "INVALID_UPLOAD_TOKEN", "QUOTA_EXCEEDED", "FORBIDDEN"),
    404: refusal("UPLOAD_NOT_FOUND"),
    409: refusal(
        "UPLOAD_NOT_RECEIVED",
        "UPLOAD_ALREADY_COMPLETED",
        "IDEMPOTENCY_KEY_REUSED",
        "IDEMPOTENCY_IN_PROGRESS",
    ),
    413: refusal("FILE_TOO_LARGE", "REQUEST_TOO_LARGE"),
}

_TEXT = Schema(type=OpenAPIType.STRING)
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


@dataclass
class BeginsUpload(Operation):
    """An operation whose body says what will be uploaded, or is not there."""

    def __post_init__(self) -> None:
        properties = {
            "filename": _TEXT,
            "content_type": Schema(type=OpenAPIType.STRING, description="Compared with the content"),
            **_OPTIONS,
            "file_size": Schema(
                type=OpenAPIType.INTEGER, minimum=1, description="Bytes; one that is too large is refused now"
            ),
        }
        self.request_body = json_request(properties, required=False)


@dataclass
class PutsContent(Operation):
    """An operation whose body is any bytes."""

    def __post_init__(self) -> None:
        self.request_body = RequestBody({"*/*": OpenAPIMediaType(schema=_BINARY)}, required=True)


@dataclass
class CompletesUpload(Operation):
    """An operation whose body may hold the token of an anonymous upload."""

    def __post_init__(self) -> None:
        self.request_body = json_request({"upload_token": _TEXT}, required=False)


@dataclass
class ChangesImage(Operation):
    """An operation whose body says what is to be another."""

    def __post_init__(self) -> None:
        properties = {"filename": _TEXT, "visibility": _OPTIONS["visibility"]}
        self.request_body = json_request(properties, required=False)

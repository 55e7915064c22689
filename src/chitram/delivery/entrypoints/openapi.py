"""How the read side is described to clients."""

from __future__ import annotations

from dataclasses import dataclass

from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import (
    OpenAPIFormat,
    OpenAPIHeader,
    OpenAPIMediaType,
    OpenAPIResponse,
    OpenAPIType,
    Operation,
    Schema,
)
from litestar.params import Parameter

from chitram.platform.http.openapi import refusal

IMAGE_ID = Parameter(description="Id of the image", schema_extra={"format": "uuid"})

METADATA_REFUSALS: dict[int, ResponseSpec] = {
    400: refusal("INVALID_REQUEST"),
    404: refusal("IMAGE_NOT_FOUND"),
    503: refusal("DATABASE_UNAVAILABLE"),
}
FILE_REFUSALS: dict[int, ResponseSpec] = {
    400: refusal("INVALID_REQUEST"),
    404: refusal("IMAGE_NOT_FOUND"),
    412: refusal("PRECONDITION_FAILED"),
    416: refusal("RANGE_NOT_SATISFIABLE"),
    503: refusal("DATABASE_UNAVAILABLE", "STORAGE_UNAVAILABLE"),
}
THUMBNAIL_REFUSALS: dict[int, ResponseSpec] = {
    400: refusal("INVALID_REQUEST"),
    404: refusal("IMAGE_NOT_FOUND", "THUMBNAIL_NOT_READY"),
    503: refusal("DATABASE_UNAVAILABLE"),
}

_TEXT = Schema(type=OpenAPIType.STRING)
_BINARY = Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.BINARY)


def _bytes(description: str, *headers: str) -> OpenAPIResponse:
    return OpenAPIResponse(
        description=description,
        headers={name: OpenAPIHeader(schema=_TEXT) for name in headers},
        content={name: OpenAPIMediaType(schema=_BINARY) for name in ("image/jpeg", "image/png")},
    )


@dataclass
class SendsFile(Operation):
    """An operation that answers with the bytes of an image, whole or in part."""

    def __post_init__(self) -> None:
        self.responses = {
            **(self.responses or {}),
            "200": _bytes("The whole file", "ETag", "Last-Modified", "Accept-Ranges"),
            "206": _bytes("The ranges that were asked for", "ETag", "Content-Range"),
            "304": OpenAPIResponse(description="The client's copy is still right"),
        }


@dataclass
class SendsThumbnail(Operation):
    """An operation that answers with the bytes of a thumbnail."""

    def __post_init__(self) -> None:
        self.responses = {
            **(self.responses or {}),
            "200": _bytes("The thumbnail", "ETag", "Last-Modified"),
            "304": OpenAPIResponse(description="The client's copy is still right"),
        }

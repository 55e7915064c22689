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
    RequestBody,
    Schema,
)
from litestar.openapi.spec import Parameter as OpenAPIParameter
from litestar.params import Parameter

from chitram.delivery.domain.links import LONGEST_SECONDS
from chitram.platform.http.openapi import RATE_LIMITED, refusal

IMAGE_ID = Parameter(description="Id of the image", schema_extra={"format": "uuid"})

METADATA_REFUSALS: dict[int, ResponseSpec] = {
    400: refusal("INVALID_REQUEST"),
    404: refusal("IMAGE_NOT_FOUND"),
    429: RATE_LIMITED,
    503: refusal("DATABASE_UNAVAILABLE"),
}
FILE_REFUSALS: dict[int, ResponseSpec] = {
    400: refusal("INVALID_REQUEST"),
    404: refusal("IMAGE_NOT_FOUND"),
    412: refusal("PRECONDITION_FAILED"),
    416: refusal("RANGE_NOT_SATISFIABLE"),
    429: RATE_LIMITED,
    503: refusal("DATABASE_UNAVAILABLE", "STORAGE_UNAVAILABLE"),
}
THUMBNAIL_REFUSALS: dict[int, ResponseSpec] = {
    400: refusal("INVALID_REQUEST"),
    404: refusal("IMAGE_NOT_FOUND", "THUMBNAIL_NOT_READY"),
    429: RATE_LIMITED,
    503: refusal("DATABASE_UNAVAILABLE"),
}
LINK_REFUSALS: dict[int, ResponseSpec] = {
    400: refusal("INVALID_REQUEST"),
    401: refusal("NOT_AUTHENTICATED"),
    403: refusal("FORBIDDEN"),
    404: refusal("IMAGE_NOT_FOUND"),
    408: refusal("UPLOAD_TIMEOUT"),
    413: refusal("REQUEST_TOO_LARGE"),
    429: RATE_LIMITED,
    503: refusal("DATABASE_UNAVAILABLE"),
}

_TEXT = Schema(type=OpenAPIType.STRING)
_BINARY = Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.BINARY)
_EXPIRES_IN = Schema(
    type=OpenAPIType.INTEGER, minimum=1, maximum=LONGEST_SECONDS, description="Seconds for which it works"
)
_LINK_PARAMETERS = (
    OpenAPIParameter("expires", "query", schema=_TEXT, description="Of a signed link"),
    OpenAPIParameter("signature", "query", schema=_TEXT, description="Of a signed link"),
)


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
        self.parameters = [*(self.parameters or []), *_LINK_PARAMETERS]
        self.responses = {
            **(self.responses or {}),
            "200": _bytes("The whole file", "ETag", "Last-Modified", "Accept-Ranges"),
            "206": _bytes("The ranges that were asked for", "ETag", "Content-Range"),
            "304": OpenAPIResponse(description="The client's copy is still right"),
            "307": OpenAPIResponse(
                description="The store sends it, at an address for this request alone",
                headers={"Location": OpenAPIHeader(schema=_TEXT)},
            ),
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


@dataclass
class TakesLinkRequest(Operation):
    """An operation whose body says for how long a link is to work."""

    def __post_init__(self) -> None:
        schema = Schema(
            type=OpenAPIType.OBJECT, properties={"expires_in": _EXPIRES_IN}, required=["expires_in"]
        )
        self.request_body = RequestBody({"application/json": OpenAPIMediaType(schema=schema)}, required=True)

"""How the read side is described to clients."""

from __future__ import annotations

from collections.abc import Sequence
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
from chitram.images.public import THUMBNAIL_SIDES
from chitram.platform.http.openapi import BAD_CREDENTIALS, NOT_SIGNED_IN, RATE_LIMITED, refusal

IMAGE_ID = Parameter(description="Id of the image", schema_extra={"format": "uuid"})
THUMBNAIL_SIZE = Parameter(
    description="150, 300 or 600 pixels on the longest side", schema_extra={"enum": [*THUMBNAIL_SIDES]}
)

METADATA_REFUSALS: dict[int, ResponseSpec] = {
    400: refusal("INVALID_REQUEST"),
    401: BAD_CREDENTIALS,
    404: refusal("IMAGE_NOT_FOUND"),
    429: RATE_LIMITED,
    503: refusal("DATABASE_UNAVAILABLE"),
}
FILE_REFUSALS: dict[int, ResponseSpec] = {
    400: refusal("INVALID_REQUEST"),
    401: BAD_CREDENTIALS,
    404: refusal("IMAGE_NOT_FOUND"),
    412: refusal("PRECONDITION_FAILED"),
    416: refusal("RANGE_NOT_SATISFIABLE"),
    429: RATE_LIMITED,
    503: refusal("DATABASE_UNAVAILABLE", "STORAGE_UNAVAILABLE"),
}
THUMBNAIL_REFUSALS: dict[int, ResponseSpec] = {
    **FILE_REFUSALS,
    404: refusal("IMAGE_NOT_FOUND", "THUMBNAIL_NOT_READY"),
}
OPTIMISED_REFUSALS: dict[int, ResponseSpec] = {
    **FILE_REFUSALS,
    404: refusal("IMAGE_NOT_FOUND", "RENDITION_NOT_READY"),
}
LINK_REFUSALS: dict[int, ResponseSpec] = {
    400: refusal("INVALID_REQUEST"),
    401: NOT_SIGNED_IN,
    403: refusal("FORBIDDEN"),
    404: refusal("IMAGE_NOT_FOUND"),
    408: refusal("UPLOAD_TIMEOUT"),
    413: refusal("REQUEST_TOO_LARGE"),
    429: RATE_LIMITED,
    503: refusal("DATABASE_UNAVAILABLE"),
}

_ORIGINALS = ("image/jpeg", "image/png")
_RENDITIONS = (*_ORIGINALS, "image/webp")
_TEXT = Schema(type=OpenAPIType.STRING)
_BINARY = Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.BINARY)
_EXPIRES_IN = Schema(
    type=OpenAPIType.INTEGER, minimum=1, maximum=LONGEST_SECONDS, description="Seconds for which it works"
)
_LINK_PARAMETERS = (
    OpenAPIParameter("expires", "query", schema=_TEXT, description="Of a signed link"),
    OpenAPIParameter("signature", "query", schema=_TEXT, description="Of a signed link"),
)


def _bytes(media_types: Sequence[str], description: str, *headers: str) -> OpenAPIResponse:
    return OpenAPIResponse(
        description=description,
        headers={name: OpenAPIHeader(schema=_TEXT) for name in headers},
        content={name: OpenAPIMediaType(schema=_BINARY) for name in media_types},
    )


def _sent(media_types: Sequence[str], *headers: str) -> dict[str, OpenAPIResponse]:
    """The answers with bytes, and those that save them."""
    return {
        "200": _bytes(media_types, "All of it", "ETag", "Last-Modified", "Accept-Ranges", *headers),
        "206": _bytes(media_types, "The ranges that were asked for", "ETag", "Content-Range", *headers),
        "304": OpenAPIResponse(description="The client's copy is still right"),
        "307": OpenAPIResponse(
            description="The store sends it, at an address for this request alone",
            headers={"Location": OpenAPIHeader(schema=_TEXT)},
        ),
    }


@dataclass
class SendsFile(Operation):
    """An operation that answers with the bytes of an image, whole or in part."""

    def __post_init__(self) -> None:
        self.parameters = [*(self.parameters or []), *_LINK_PARAMETERS]
        self.responses = {**(self.responses or {}), **_sent(_ORIGINALS)}


@dataclass
class SendsRendition(Operation):
    """An operation that answers with the bytes of a rendition, whole or in part."""

    def __post_init__(self) -> None:
        self.responses = {**(self.responses or {}), **_sent(_RENDITIONS)}


@dataclass
class SendsOptimised(Operation):
    """An operation whose request says which renditions it takes."""

    def __post_init__(self) -> None:
        accept = OpenAPIParameter("Accept", "header", schema=_TEXT, description="WebP has to be named")
        self.parameters = [*(self.parameters or []), accept]
        self.responses = {**(self.responses or {}), **_sent(_RENDITIONS, "Vary")}


@dataclass
class TakesLinkRequest(Operation):
    """An operation whose body says for how long a link is to work."""

    def __post_init__(self) -> None:
        schema = Schema(
            type=OpenAPIType.OBJECT, properties={"expires_in": _EXPIRES_IN}, required=["expires_in"]
        )
        self.request_body = RequestBody({"application/json": OpenAPIMediaType(schema=schema)}, required=True)

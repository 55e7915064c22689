"""Pieces that descriptions of operations share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from litestar import HttpMethod
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import (
    Components,
    OpenAPIMediaType,
    OpenAPIType,
    RequestBody,
    Schema,
    SecurityScheme,
)

from chitram.platform.http.errors import ErrorBody


def refusal(*codes: str) -> ResponseSpec:
    """Describe a status by the error codes that come with it."""
    return ResponseSpec(ErrorBody, description=", ".join(codes), generate_examples=False)


RATE_LIMITED = refusal("RATE_LIMIT_EXCEEDED")

# Whoever sends an access token or an API key.
SIGNED_IN: list[dict[str, list[str]]] = [{"bearer": []}, {"apiKey": []}]
SECURITY_SCHEMES = Components(
    security_schemes={
        "bearer": SecurityScheme(type="http", scheme="bearer", description="An access token or an API key"),
        "apiKey": SecurityScheme(type="apiKey", name="X-API-Key", security_scheme_in="header"),
    }
)


def json_request(properties: Mapping[str, Schema], *, required: bool) -> RequestBody:
    """Describe a body that is a JSON object, all of whose `properties` are required if it is."""
    schema = Schema(
        type=OpenAPIType.OBJECT,
        properties={**properties},
        required=list(properties) if required else None,
        additional_properties=False,
    )
    return RequestBody({"application/json": OpenAPIMediaType(schema=schema)}, required=required)


def reads(noun: str) -> Callable[..., str]:
    """Name the GET of a handler `getNoun` and its HEAD `headNoun`."""

    def operation_id(_handler: Any, method: HttpMethod, _path: Any) -> str:  # noqa: ANN401 - Litestar's types
        return f"{method.value.lower()}{noun}"

    return operation_id


READ_METHODS = [HttpMethod.GET, HttpMethod.HEAD]

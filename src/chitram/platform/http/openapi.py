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

# What is said to credentials that are no good, and to none where they are needed.
BAD_CREDENTIALS = refusal("TOKEN_EXPIRED", "INVALID_TOKEN")
NOT_SIGNED_IN = refusal("NOT_AUTHENTICATED", "TOKEN_EXPIRED", "INVALID_TOKEN")

# Whoever has signed in; they or an API key of theirs; they, or anyone.
SESSION: list[dict[str, list[str]]] = [{"bearerAuth": []}]
SIGNED_IN: list[dict[str, list[str]]] = [*SESSION, {"apiKey": []}]
MAY_SIGN_IN: list[dict[str, list[str]]] = [{}, *SIGNED_IN]
SECURITY_SCHEMES = Components(
    security_schemes={
        "bearerAuth": SecurityScheme(
            type="http",
            scheme="bearer",
            bearer_format="JWT",
            description="An access token; where an API key will do, it may come here too",
        ),
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

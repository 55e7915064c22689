"""Pieces that descriptions of operations share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from litestar import HttpMethod
from litestar.openapi.datastructures import ResponseSpec

from chitram.platform.http.errors import ErrorBody


def refusal(*codes: str) -> ResponseSpec:
    """Describe a status by the error codes that come with it."""
    return ResponseSpec(ErrorBody, description=", ".join(codes), generate_examples=False)


RATE_LIMITED = refusal("RATE_LIMIT_EXCEEDED")


def reads(noun: str) -> Callable[..., str]:
    """Name the GET of a handler `getNoun` and its HEAD `headNoun`."""

    def operation_id(_handler: Any, method: HttpMethod, _path: Any) -> str:  # noqa: ANN401 - Litestar's types
        return f"{method.value.lower()}{noun}"

    return operation_id


READ_METHODS = [HttpMethod.GET, HttpMethod.HEAD]

"""The one error format, for errors of every layer."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec
import structlog
from litestar import MediaType, Request, Response
from litestar.exceptions import HTTPException
from litestar.serialization import encode_json
from litestar.types import ExceptionHandlersMap

from chitram.kernel.errors import Category, ChitramError, InvalidRequest
from chitram.platform.http.answers import JsonAnswer

STATUS = {
    Category.INVALID: HTTPStatus.BAD_REQUEST,
    Category.UNAUTHENTICATED: HTTPStatus.UNAUTHORIZED,
    Category.FORBIDDEN: HTTPStatus.FORBIDDEN,
    Category.NOT_FOUND: HTTPStatus.NOT_FOUND,
    Category.TIMEOUT: HTTPStatus.REQUEST_TIMEOUT,
    Category.CONFLICT: HTTPStatus.CONFLICT,
    Category.TOO_LARGE: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    Category.UNSUPPORTED: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    Category.UNPROCESSABLE: HTTPStatus.UNPROCESSABLE_ENTITY,
    Category.RATE_LIMITED: HTTPStatus.TOO_MANY_REQUESTS,
    Category.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    Category.INTERNAL: HTTPStatus.INTERNAL_SERVER_ERROR,
}
_LEAST_RETRY_SECONDS = 1
# Codes of what the framework itself refuses.
_FRAMEWORK_CODES = {
    HTTPStatus.BAD_REQUEST: InvalidRequest.code,
    HTTPStatus.UNAUTHORIZED: "NOT_AUTHENTICATED",
    HTTPStatus.FORBIDDEN: "FORBIDDEN",
    HTTPStatus.NOT_FOUND: "NOT_FOUND",
    HTTPStatus.METHOD_NOT_ALLOWED: "METHOD_NOT_ALLOWED",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "REQUEST_TOO_LARGE",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "UNSUPPORTED_MEDIA_TYPE",
    HTTPStatus.TOO_MANY_REQUESTS: "RATE_LIMIT_EXCEEDED",
    HTTPStatus.SERVICE_UNAVAILABLE: "UNAVAILABLE",
}

_log = structlog.get_logger("chitram.http")


class ErrorDetail(msgspec.Struct, frozen=True):
    """A stable code, a sentence for people, facts for programs."""

    code: str
    message: str
    details: Mapping[str, Any] = {}


class ErrorBody(msgspec.Struct, frozen=True):
    """What every error answers with."""

    error: ErrorDetail


def error_body(error: ChitramError) -> ErrorBody:
    """The body that tells a client of an error."""
    return ErrorBody(ErrorDetail(error.code, error.message, dict(error.details)))


def error_status(error: ChitramError) -> int:
    """The HTTP status of an error. An error that only HTTP knows may bring its own."""
    return int(getattr(error, "status", STATUS[error.category]))


def error_headers(error: ChitramError) -> dict[str, str]:
    """The header fields that an error's status asks for."""
    headers = dict(getattr(error, "headers", None) or {})
    if error.category in {Category.UNAVAILABLE, Category.RATE_LIMITED} or error.retry_after:
        headers["retry-after"] = str(max(error.retry_after or 0, _LEAST_RETRY_SECONDS))
    if error.category is Category.UNAUTHENTICATED:
        headers["www-authenticate"] = "Bearer"
    if error.category is Category.TIMEOUT:
        # RFC 9110, section 15.5.9: whoever answers 408 means to close the connection.
        headers["connection"] = "close"
    return headers


def answer_to(error: Exception) -> JsonAnswer:
    """The answer that tells a client of an error; an unexpected one is logged."""
    if not isinstance(error, ChitramError):
        _log.error("unexpected error", exc_info=error)
        error = ChitramError()
    headers = {**error_headers(error), "cache-control": "no-store"}
    fields = tuple((name.encode(), value.encode()) for name, value in headers.items())
    return JsonAnswer(encode_json(error_body(error)), fields, error_status(error))


def _refuse(_: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    answer = answer_to(error)
    headers = {name.decode(): value.decode() for name, value in answer.fields}
    return Response(answer.body, status_code=answer.status, headers=headers, media_type=MediaType.JSON)


def _refuse_framework(request: Request[Any, Any, Any], error: HTTPException) -> Response[Any]:
    if error.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return _refuse(request, error)
    code = _FRAMEWORK_CODES.get(HTTPStatus(error.status_code), "REQUEST_REFUSED")
    fields = [
        {"field": str(item.get("key", "")), "message": str(item.get("message", ""))}
        for item in (error.extra if isinstance(error.extra, list) else [])
        if isinstance(item, dict)
    ]
    message = HTTPStatus(error.status_code).description or error.detail
    return Response(
        ErrorBody(ErrorDetail(code, message, {"fields": fields} if fields else {})),
        status_code=error.status_code,
        headers={**(error.headers or {}), "cache-control": "no-store"},
    )


EXCEPTION_HANDLERS: ExceptionHandlersMap = {
    ChitramError: _refuse,
    HTTPException: _refuse_framework,
    Exception: _refuse,
}

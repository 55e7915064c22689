"""How accounts are described to clients."""

from __future__ import annotations

from dataclasses import dataclass

from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import OpenAPIFormat, OpenAPIType, Operation, Schema

from chitram.accounts.domain.passwords import LEAST_CHARACTERS, MOST_CHARACTERS
from chitram.platform.http.openapi import NOT_SIGNED_IN, RATE_LIMITED, json_request, refusal

_EMAIL = Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.EMAIL)
_NEW_PASSWORD = Schema(
    type=OpenAPIType.STRING,
    min_length=LEAST_CHARACTERS,
    max_length=MOST_CHARACTERS,
    description="Not the address, and none of those that are tried first",
)
_PASSWORD = Schema(type=OpenAPIType.STRING)

_BODY_REFUSALS: dict[int, ResponseSpec] = {
    400: refusal("INVALID_REQUEST"),
    408: refusal("UPLOAD_TIMEOUT"),
    413: refusal("REQUEST_TOO_LARGE"),
    429: RATE_LIMITED,
}
REGISTER_REFUSALS: dict[int, ResponseSpec] = {
    **_BODY_REFUSALS,
    400: refusal("INVALID_REQUEST", "WEAK_PASSWORD"),
    403: refusal("REGISTRATION_CLOSED"),
    409: refusal("EMAIL_TAKEN"),
    503: refusal("SIGN_IN_CAPACITY_EXCEEDED", "DATABASE_UNAVAILABLE"),
}
LOGIN_REFUSALS: dict[int, ResponseSpec] = {
    **_BODY_REFUSALS,
    401: refusal("INVALID_CREDENTIALS"),
    503: refusal("SIGN_IN_CAPACITY_EXCEEDED", "DATABASE_UNAVAILABLE"),
}
REFRESH_REFUSALS: dict[int, ResponseSpec] = {
    **_BODY_REFUSALS,
    401: refusal("INVALID_TOKEN", "TOKEN_EXPIRED"),
    503: refusal("DATABASE_UNAVAILABLE"),
}
LOGOUT_REFUSALS: dict[int, ResponseSpec] = {
    401: NOT_SIGNED_IN,
    403: refusal("FORBIDDEN"),
    503: refusal("DATABASE_UNAVAILABLE"),
}
ME_REFUSALS: dict[int, ResponseSpec] = {
    401: NOT_SIGNED_IN,
    503: refusal("DATABASE_UNAVAILABLE"),
}


@dataclass
class Registers(Operation):
    """An operation whose body is an address and a password to be."""

    def __post_init__(self) -> None:
        self.request_body = json_request({"email": _EMAIL, "password": _NEW_PASSWORD}, required=True)


@dataclass
class SignsIn(Operation):
    """An operation whose body is an address and its password."""

    def __post_init__(self) -> None:
        self.request_body = json_request({"email": _EMAIL, "password": _PASSWORD}, required=True)


@dataclass
class Refreshes(Operation):
    """An operation whose body is a refresh token."""

    def __post_init__(self) -> None:
        token = Schema(type=OpenAPIType.STRING)
        self.request_body = json_request({"refresh_token": token}, required=True)

"""Registering, signing in and being known, over HTTP."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import msgspec
from dishka.integrations.litestar import FromDishka, inject
from litestar import Controller, Request, get, post
from litestar.datastructures import CacheControlHeader

from chitram.accounts.entrypoints import openapi
from chitram.accounts.public import (
    Authenticator,
    Forbidden,
    InvalidToken,
    NotAuthenticated,
    principal_of,
)
from chitram.accounts.queries import AccountQueries
from chitram.accounts.use_cases.end_session import EndSession, EndSessionCommand
from chitram.accounts.use_cases.opening import SignedIn
from chitram.accounts.use_cases.refresh_session import RefreshCommand, RefreshSession
from chitram.accounts.use_cases.register_user import RegisterCommand, RegisterUser
from chitram.accounts.use_cases.sign_in import SignIn, SignInCommand
from chitram.platform.http.json import read_json
from chitram.platform.http.openapi import SESSION, SIGNED_IN
from chitram.platform.http.rate_limits import RATE_LIMIT, client_of
from chitram.platform.rate_limits.policy import LOGINS, REFRESHES

AnyRequest = Request[Any, Any, Any]


class CredentialsBody(msgspec.Struct, frozen=True):
    """What somebody typed."""

    email: str
    password: str


class RefreshBody(msgspec.Struct, frozen=True):
    """The refresh token that was handed out last."""

    refresh_token: str


class UserBody(msgspec.Struct, frozen=True, kw_only=True):
    """An account."""

    id: UUID
    email: str
    is_active: bool
    is_admin: bool
    created_at: datetime


class StorageBody(msgspec.Struct, frozen=True, kw_only=True):
    """What the images of an account take up, and may: bytes and images, null without a limit."""

    used_bytes: int
    quota_bytes: int | None
    used_images: int
    quota_images: int | None


class MeBody(UserBody, frozen=True, kw_only=True):
    """The account of whoever asks."""

    storage: StorageBody


class SignedInBody(msgspec.Struct, frozen=True, kw_only=True):
    """An account and the tokens of its session. `expires_in` is the access token's life in seconds.

    The refresh token is good for one exchange.
    """

    user: UserBody
    access_token: str
    token_type: Literal["bearer"] = "bearer"  # noqa: S105 - its type
    expires_in: int
    refresh_token: str


class AuthController(Controller):
    """Sessions under `/api/v1/auth`."""

    path = "/api/v1/auth"
    tags = ("accounts",)
    # Errors say the same of themselves.
    cache_control = CacheControlHeader(no_store=True)

    @post(
        "/register",
        operation_id="register",
        summary="Register",
        operation_class=openapi.Registers,
        opt={RATE_LIMIT: LOGINS},
        responses=openapi.REGISTER_REFUSALS,
    )
    @inject
    async def register(self, request: AnyRequest, register: FromDishka[RegisterUser]) -> SignedInBody:
        """Make an account and sign in to it, unless registration is closed."""
        body = await read_json(request.receive, CredentialsBody)
        return _signed_in(await register(RegisterCommand(body.email, body.password, client_of(request))))

    @post(
        "/login",
        status_code=200,
        operation_id="login",
        summary="Sign in",
        operation_class=openapi.SignsIn,
        opt={RATE_LIMIT: LOGINS},
        responses=openapi.LOGIN_REFUSALS,
    )
    @inject
    async def login(self, request: AnyRequest, sign_in: FromDishka[SignIn]) -> SignedInBody:
        """Open a session."""
        body = await read_json(request.receive, CredentialsBody)
        return _signed_in(await sign_in(SignInCommand(body.email, body.password, client_of(request))))

    @post(
        "/refresh",
        status_code=200,
        operation_id="refresh",
        summary="Prolong a session",
        operation_class=openapi.Refreshes,
        opt={RATE_LIMIT: REFRESHES},
        responses=openapi.REFRESH_REFUSALS,
    )
    @inject
    async def refresh(self, request: AnyRequest, refresh: FromDishka[RefreshSession]) -> SignedInBody:
        """Exchange a refresh token for a new one and a new access token.

        A token that was exchanged before ends its session: two have it, and one of them stole it.
        """
        body = await read_json(request.receive, RefreshBody)
        return _signed_in(await refresh(RefreshCommand(body.refresh_token)))

    @post(
        "/logout",
        status_code=204,
        operation_id="logout",
        summary="Sign out",
        security=SESSION,
        responses=openapi.LOGOUT_REFUSALS,
    )
    @inject
    async def logout(
        self, request: AnyRequest, authenticator: FromDishka[Authenticator], end: FromDishka[EndSession]
    ) -> None:
        """End the session of the access token; no token of it is good any more."""
        principal = await principal_of(request.headers, authenticator)
        if principal.user_id is None:
            raise NotAuthenticated
        if principal.session_id is None:
            raise Forbidden("An API key has no session that could be ended.")
        await end(EndSessionCommand(principal.session_id))

    @get(
        "/me",
        operation_id="getMe",
        summary="Who am I",
        security=SIGNED_IN,
        responses=openapi.ME_REFUSALS,
    )
    @inject
    async def me(
        self,
        request: AnyRequest,
        authenticator: FromDishka[Authenticator],
        accounts: FromDishka[AccountQueries],
    ) -> MeBody:
        """The account of whoever asks, and what its images take up."""
        principal = await principal_of(request.headers, authenticator)
        if principal.user_id is None:
            raise NotAuthenticated
        account = await accounts.find(principal.user_id)
        if account is None:
            raise InvalidToken
        return MeBody(
            id=account.id,
            email=account.email,
            is_active=account.is_active,
            is_admin=account.is_admin,
            created_at=account.created_at,
            storage=StorageBody(
                used_bytes=account.used_bytes,
                quota_bytes=account.quota_bytes,
                used_images=account.used_images,
                quota_images=account.quota_images,
            ),
        )


def _signed_in(signed_in: SignedIn) -> SignedInBody:
    user = signed_in.user
    return SignedInBody(
        user=UserBody(
            id=user.id,
            email=user.email.address,
            is_active=user.is_active,
            is_admin=user.is_admin,
            created_at=user.created_at,
        ),
        access_token=signed_in.access_token,
        expires_in=signed_in.expires_in,
        refresh_token=signed_in.refresh_token,
    )

"""API keys over HTTP."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
from dishka.integrations.litestar import FromDishka, inject
from litestar import Controller, Request, Response, delete, get, post
from litestar.openapi.spec import OpenAPIMediaType, OpenAPIType, Operation, RequestBody, Schema
from litestar.params import Parameter

from chitram.accounts.domain.api_key import LONGEST_NAME
from chitram.accounts.domain.errors import ApiKeyNotFound
from chitram.accounts.domain.principal import Scope
from chitram.accounts.public import Authenticator, principal_of
from chitram.accounts.queries import ApiKeyLists, ListedApiKey
from chitram.accounts.use_cases.create_api_key import CreateApiKey, CreateApiKeyCommand
from chitram.accounts.use_cases.delete_api_key import DeleteApiKey, DeleteApiKeyCommand
from chitram.platform.http.cursors import LONGEST_PAGE, Cursors
from chitram.platform.http.json import read_json
from chitram.platform.http.openapi import NOT_SIGNED_IN, SESSION, refusal

AnyRequest = Request[Any, Any, Any]

PATH = "/api/v1/auth/api-keys"
_LIST = "api-keys"
_LONGEST_SECONDS = 10 * 365 * 86_400
_REFUSALS = {
    401: NOT_SIGNED_IN,
    403: refusal("FORBIDDEN"),
    503: refusal("DATABASE_UNAVAILABLE"),
}


class NewApiKeyBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a key is to be."""

    name: str
    scopes: Annotated[frozenset[Scope], msgspec.Meta(min_length=1)]
    expires_in: Annotated[int, msgspec.Meta(ge=1, le=_LONGEST_SECONDS)] | None = None


class ApiKeyBody(msgspec.Struct, frozen=True, kw_only=True):
    """A key as its owner sees it later. `last_used_at` is exact to the minute."""

    id: UUID
    name: str
    hint: str
    scopes: list[Scope]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None = None


class CreatedApiKeyBody(ApiKeyBody, frozen=True, kw_only=True):
    """A key that was just made; `key` is shown this once."""

    key: str


class ApiKeyListBody(msgspec.Struct, frozen=True):
    """A page of keys, the newest first; `next_cursor` is null on the last."""

    items: list[ApiKeyBody]
    next_cursor: str | None


@dataclass
class _MakesApiKey(Operation):
    def __post_init__(self) -> None:
        scopes = Schema(type=OpenAPIType.STRING, enum=[scope.value for scope in Scope])
        properties = {
            "name": Schema(type=OpenAPIType.STRING, min_length=1, max_length=LONGEST_NAME),
            "scopes": Schema(type=OpenAPIType.ARRAY, items=scopes, min_items=1, unique_items=True),
            "expires_in": Schema(
                type=[OpenAPIType.INTEGER, OpenAPIType.NULL],
                minimum=1,
                maximum=_LONGEST_SECONDS,
                description="Seconds; without it the key does not expire",
            ),
        }
        schema = Schema(
            type=OpenAPIType.OBJECT,
            properties={**properties},
            required=["name", "scopes"],
            additional_properties=False,
        )
        self.request_body = RequestBody({"application/json": OpenAPIMediaType(schema=schema)}, required=True)


class ApiKeysController(Controller):
    """The keys of whoever has signed in."""

    path = PATH
    tags = ("accounts",)

    @post(
        "/",
        operation_id="createApiKey",
        summary="Make an API key",
        operation_class=_MakesApiKey,
        security=SESSION,
        responses={
            400: refusal("INVALID_REQUEST"),
            408: refusal("UPLOAD_TIMEOUT"),
            409: refusal("TOO_MANY_API_KEYS"),
            413: refusal("REQUEST_TOO_LARGE"),
            **_REFUSALS,
        },
    )
    @inject
    async def create(
        self,
        request: AnyRequest,
        authenticator: FromDishka[Authenticator],
        create_api_key: FromDishka[CreateApiKey],
    ) -> Response[CreatedApiKeyBody]:
        """Make a key for programs to act in the name of the account, as far as its scopes go.

        Takes an access token: a key can neither make keys nor see or remove them. The scope `admin`
        is for administrators. The key itself is in this answer alone.
        """
        principal = await principal_of(request.headers, authenticator)
        principal.require_session()
        body = await read_json(request.receive, NewApiKeyBody)
        made, key = await create_api_key(
            CreateApiKeyCommand(
                principal=principal, name=body.name, scopes=body.scopes, expires_in=body.expires_in
            )
        )
        return Response(
            CreatedApiKeyBody(
                id=made.id,
                name=made.name,
                hint=made.hint,
                scopes=sorted(made.scopes),
                created_at=made.created_at,
                expires_at=made.expires_at,
                key=key,
            ),
            status_code=201,
            headers={"cache-control": "no-store"},
        )

    @get(
        "/",
        operation_id="listApiKeys",
        summary="List API keys",
        security=SESSION,
        responses={400: refusal("INVALID_REQUEST"), **_REFUSALS},
    )
    @inject
    async def list_keys(
        self,
        request: AnyRequest,
        authenticator: FromDishka[Authenticator],
        lists: FromDishka[ApiKeyLists],
        cursors: FromDishka[Cursors],
        limit: Annotated[int, Parameter(ge=1, le=LONGEST_PAGE)] = 20,
        cursor: Annotated[str | None, Parameter(description="The `next_cursor` of the page before")] = None,
    ) -> Response[ApiKeyListBody]:
        """List the keys of the account, expired ones too, the newest first. Takes an access token."""
        principal = await principal_of(request.headers, authenticator)
        user_id = principal.require_session()
        before = cursors.read(cursor, _LIST, user_id) if cursor is not None else None
        found = await lists.newest(user_id, before, limit + 1)
        shown = found[:limit]
        return Response(
            ApiKeyListBody(
                items=[_body(key) for key in shown],
                next_cursor=cursors.make(shown[-1].id, _LIST, user_id) if len(found) > limit else None,
            ),
            headers={"cache-control": "private, no-store"},
        )

    @delete(
        "/{key_id:str}",
        status_code=204,
        operation_id="deleteApiKey",
        summary="Remove an API key",
        security=SESSION,
        responses={400: refusal("INVALID_REQUEST"), 404: refusal("API_KEY_NOT_FOUND"), **_REFUSALS},
    )
    @inject
    async def remove(
        self,
        request: AnyRequest,
        key_id: Annotated[str, Parameter(description="Id of the key", schema_extra={"format": "uuid"})],
        authenticator: FromDishka[Authenticator],
        delete_api_key: FromDishka[DeleteApiKey],
    ) -> None:
        """Remove a key, which is refused from then on. Takes an access token."""
        principal = await principal_of(request.headers, authenticator)
        principal.require_session()
        await delete_api_key(DeleteApiKeyCommand(principal, _key_id(key_id)))


def _key_id(text: str) -> UUID:
    """Raises `ApiKeyNotFound` for what is no id."""
    try:
        return UUID(text)
    except ValueError:
        raise ApiKeyNotFound from None


def _body(key: ListedApiKey) -> ApiKeyBody:
    return ApiKeyBody(
        id=key.id,
        name=key.name,
        hint=key.hint,
        scopes=sorted(key.scopes),
        created_at=key.created_at,
        expires_at=key.expires_at,
        last_used_at=key.last_used_at,
    )

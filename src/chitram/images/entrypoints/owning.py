"""What owners do with their images: list, change, verify."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, TypeVar
from uuid import UUID

import msgspec
from dishka.integrations.litestar import FromDishka, inject
from litestar import Request, Response, get, patch, post
from litestar.di import NamedDependency, Provide
from litestar.types import ControllerRouterHandler

from chitram.accounts.public import Authenticator, principal_of
from chitram.images.domain.image import Visibility
from chitram.images.entrypoints import openapi
from chitram.images.entrypoints.listing import ImageList, ImageListing, WantedPage, wanted_page
from chitram.images.entrypoints.slots import UploadSlots
from chitram.images.public import ImageBody, ImageNotFound, ImageQueries, image_body, parse_image_id
from chitram.images.use_cases.change_image import ChangeCommand, ChangeImage
from chitram.images.use_cases.verify_image import VerifyCommand, VerifyImage
from chitram.platform.http.json import read_json
from chitram.platform.http.openapi import SIGNED_IN
from chitram.platform.http.rate_limits import RATE_LIMIT
from chitram.platform.rate_limits.policy import READS

AnyRequest = Request[Any, Any, Any]

_T = TypeVar("_T")
_IMAGES = "/api/v1/images"
_TAGS = ["images"]
_FOR_NOBODY = {"cache-control": "private, no-store"}


class ChangeBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is to be another; what is left out stays as it is."""

    filename: str | msgspec.UnsetType = msgspec.UNSET
    visibility: Visibility | msgspec.UnsetType = msgspec.UNSET


class VerifiedBody(msgspec.Struct, frozen=True):
    """What reading the stored bytes found: SHA-256 in hex, null when they are missing."""

    id: UUID
    intact: bool
    checksum: str | None
    expected: str
    verified_at: datetime


@get(
    _IMAGES,
    tags=_TAGS,
    operation_id="listImages",
    summary="List images",
    dependencies={"wanted": Provide(wanted_page, sync_to_thread=False)},
    security=SIGNED_IN,
    responses=openapi.LIST_REFUSALS,
    opt={RATE_LIMIT: READS},
)
@inject
async def list_images(
    request: AnyRequest,
    wanted: NamedDependency[WantedPage],
    listing: FromDishka[ImageListing],
    authenticator: FromDishka[Authenticator],
) -> Response[ImageList]:
    """List the caller's own images, newest first, page by page.

    With `content_type` or `visibility` a page may have fewer images than `limit`, and even none, where
    these are rare: a list ends where `next_cursor` is null.
    """
    principal = await principal_of(request.headers, authenticator)
    return Response(await listing.page(principal, wanted), headers=_FOR_NOBODY)


@patch(
    f"{_IMAGES}/{{image_id:str}}",
    tags=_TAGS,
    operation_id="changeImage",
    summary="Change an image",
    operation_class=openapi.ChangesImage,
    security=SIGNED_IN,
    responses=openapi.CHANGE_REFUSALS,
)
@inject
async def change_image(
    request: AnyRequest,
    image_id: Annotated[str, openapi.IMAGE_ID],
    change: FromDishka[ChangeImage],
    queries: FromDishka[ImageQueries],
    authenticator: FromDishka[Authenticator],
) -> Response[ImageBody]:
    """Change the name of an image or who may see it, by its owner or an administrator."""
    wanted = parse_image_id(image_id)
    principal = await principal_of(request.headers, authenticator)
    body = await read_json(request.receive, ChangeBody)
    await change(
        ChangeCommand(
            image_id=wanted,
            principal=principal,
            filename=_given(body.filename),
            visibility=_given(body.visibility),
        )
    )
    view = await queries.find(wanted)
    if view is None:
        raise ImageNotFound
    return Response(image_body(view), headers=_FOR_NOBODY)


@post(
    f"{_IMAGES}/{{image_id:str}}/verify",
    status_code=200,
    tags=_TAGS,
    operation_id="verifyImage",
    summary="Verify the stored bytes of an image",
    security=SIGNED_IN,
    responses=openapi.VERIFY_REFUSALS,
    opt={RATE_LIMIT: READS},
)
@inject
async def verify_image(
    request: AnyRequest,
    image_id: Annotated[str, openapi.IMAGE_ID],
    verify: FromDishka[VerifyImage],
    authenticator: FromDishka[Authenticator],
    slots: FromDishka[UploadSlots],
) -> Response[VerifiedBody]:
    """Read the stored bytes again and compare their SHA-256, for the owner or an administrator.

    It costs what checking an upload costs, and takes turns with uploads.
    """
    command = VerifyCommand(parse_image_id(image_id), await principal_of(request.headers, authenticator))
    async with slots.taken(request.scope["client"]):
        found = await verify(command)
    body = VerifiedBody(
        id=command.image_id,
        intact=found.is_intact,
        checksum=found.found.hex() if found.found is not None else None,
        expected=found.expected.hex(),
        verified_at=found.verified_at,
    )
    return Response(body, headers=_FOR_NOBODY)


def _given(value: _T | msgspec.UnsetType) -> _T | None:
    return None if value is msgspec.UNSET else value


HANDLERS: list[ControllerRouterHandler] = [list_images, change_image, verify_image]

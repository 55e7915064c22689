"""Reading one image over HTTP, as the framework routes and describes it; `reads.py` answers."""

from __future__ import annotations

from typing import Annotated, Any, cast

from dishka.integrations.litestar import FromDishka, inject
from litestar import MediaType, Request, Response, route
from litestar.types import ASGIApp, ControllerRouterHandler

from chitram.accounts.public import Authenticator
from chitram.delivery.entrypoints import openapi
from chitram.delivery.entrypoints.links import create_link
from chitram.delivery.entrypoints.reads import ReadEndpoints
from chitram.images.public import ImageBody, RenditionKind
from chitram.platform.http.head import RequestHead
from chitram.platform.http.openapi import MAY_SIGN_IN, READ_METHODS, reads
from chitram.platform.http.rate_limits import RATE_LIMIT
from chitram.platform.rate_limits.policy import READS

AnyRequest = Request[Any, Any, Any]

# Handlers of their own, for Litestar does not let two controllers share a path.
_IMAGE = "/api/v1/images/{image_id:str}"
_TAGS = ["images"]


@route(
    _IMAGE,
    tags=_TAGS,
    http_method=READ_METHODS,
    operation_id=reads("Image"),
    summary="Describe an image",
    security=MAY_SIGN_IN,
    responses=openapi.METADATA_REFUSALS,
    opt={RATE_LIMIT: READS},
)
@inject
async def metadata(
    request: AnyRequest,
    image_id: Annotated[str, openapi.IMAGE_ID],
    endpoints: FromDishka[ReadEndpoints],
    authenticator: FromDishka[Authenticator],
) -> Response[ImageBody]:
    """Describe an image."""
    answer = await endpoints.metadata(RequestHead(request.scope), authenticator, image_id)
    fields = {name.decode(): value.decode() for name, value in answer.fields}
    encoded = Response(answer.body, media_type=MediaType.JSON, headers=fields)
    return cast("Response[ImageBody]", encoded)


@route(
    f"{_IMAGE}/file",
    tags=_TAGS,
    http_method=READ_METHODS,
    operation_id=reads("ImageFile"),
    summary="Send the bytes of an image",
    operation_class=openapi.SendsFile,
    security=MAY_SIGN_IN,
    responses=openapi.FILE_REFUSALS,
    opt={RATE_LIMIT: READS},
)
@inject
async def file(
    request: AnyRequest,
    image_id: Annotated[str, openapi.IMAGE_ID],
    endpoints: FromDishka[ReadEndpoints],
    authenticator: FromDishka[Authenticator],
) -> ASGIApp:
    """Send the stored bytes of an image, or have them sent by the proxy or the store."""
    return await endpoints.file(RequestHead(request.scope), authenticator, image_id)


@route(
    f"{_IMAGE}/thumbnail",
    tags=_TAGS,
    http_method=READ_METHODS,
    operation_id=reads("ImageThumbnail"),
    summary="Send a thumbnail",
    operation_class=openapi.SendsRendition,
    security=MAY_SIGN_IN,
    responses=openapi.THUMBNAIL_REFUSALS,
    opt={RATE_LIMIT: READS},
)
@inject
async def thumbnail(
    request: AnyRequest,
    image_id: Annotated[str, openapi.IMAGE_ID],
    endpoints: FromDishka[ReadEndpoints],
    authenticator: FromDishka[Authenticator],
    size: Annotated[str, openapi.THUMBNAIL_SIZE] = RenditionKind.MEDIUM.value,  # noqa: ARG001 - described
) -> ASGIApp:
    """Send a thumbnail: 150, 300 or 600 pixels on its longest side, or as many as the image has."""
    return await endpoints.thumbnail(RequestHead(request.scope), authenticator, image_id)


@route(
    f"{_IMAGE}/optimised",
    tags=_TAGS,
    http_method=READ_METHODS,
    operation_id=reads("ImageOptimised"),
    summary="Send an image in fewer bytes",
    operation_class=openapi.SendsOptimised,
    security=MAY_SIGN_IN,
    responses=openapi.OPTIMISED_REFUSALS,
    opt={RATE_LIMIT: READS},
)
@inject
async def optimised(
    request: AnyRequest,
    image_id: Annotated[str, openapi.IMAGE_ID],
    endpoints: FromDishka[ReadEndpoints],
    authenticator: FromDishka[Authenticator],
) -> ASGIApp:
    """Send an image as it looks, in the fewest bytes there are for this client.

    WebP goes only to those whose `Accept` names it. Where fewer bytes are not to be had without
    being seen, the stored file is sent.
    """
    return await endpoints.optimised(RequestHead(request.scope), authenticator, image_id)


HANDLERS: list[ControllerRouterHandler] = [metadata, file, thumbnail, optimised, create_link]

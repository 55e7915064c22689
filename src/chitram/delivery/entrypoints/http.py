"""Reading one image over HTTP: its metadata and its bytes."""

from __future__ import annotations

from functools import partial
from typing import Annotated, cast

from dishka.integrations.litestar import FromDishka, inject
from litestar import MediaType, Response, route
from litestar.types import ASGIApp, ControllerRouterHandler

from chitram.delivery import representations
from chitram.delivery.domain.accept import names_media_type
from chitram.delivery.domain.caching import cache_control, metadata_cache_control, rendition_cache_control
from chitram.delivery.entrypoints import openapi
from chitram.delivery.entrypoints.image_bytes import ImageBytes, Resource
from chitram.delivery.entrypoints.links import create_link
from chitram.delivery.entrypoints.visible import AnyRequest, VisibleImages
from chitram.images.public import THUMBNAIL_SIDES, ImageBody, RenditionKind
from chitram.kernel.errors import InvalidRequest
from chitram.platform.http.headers import joined_lines
from chitram.platform.http.openapi import MAY_SIGN_IN, READ_METHODS, reads
from chitram.platform.http.rate_limits import RATE_LIMIT
from chitram.platform.rate_limits.policy import READS

_WEBP = "image/webp"
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
    visible: FromDishka[VisibleImages],
) -> Response[ImageBody]:
    """Describe an image."""
    seen = await visible.find(request, image_id)
    encoded = Response(
        seen.image.body,
        media_type=MediaType.JSON,
        headers={
            "cache-control": metadata_cache_control(seen.view.visibility),
            "x-cache": seen.x_cache.value,
        },
    )
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
    image_bytes: FromDishka[ImageBytes],
) -> ASGIApp:
    """Send the stored bytes of an image, or have them sent by the proxy or the store."""
    return await image_bytes.answer(request, image_id, _FILE)


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
    image_bytes: FromDishka[ImageBytes],
    size: Annotated[str, openapi.THUMBNAIL_SIZE] = RenditionKind.MEDIUM.value,
) -> ASGIApp:
    """Send a thumbnail: 150, 300 or 600 pixels on its longest side, or as many as the image has."""
    return await image_bytes.answer(request, image_id, _thumbnail_of(size))


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
    image_bytes: FromDishka[ImageBytes],
) -> ASGIApp:
    """Send an image as it looks, in the fewest bytes there are for this client.

    WebP goes only to those whose `Accept` names it. Where fewer bytes are not to be had without
    being seen, the stored file is sent.
    """
    takes_webp = names_media_type(joined_lines(request, "accept"), _WEBP)
    return await image_bytes.answer(request, image_id, _OPTIMISED[takes_webp])


def _thumbnail_of(size: str) -> Resource:
    if (found := _THUMBNAILS.get(size)) is None:
        sizes = [*_THUMBNAILS]
        raise InvalidRequest("size is small, medium or large.", details={"field": "size", "allowed": sizes})
    return found


_FILE = Resource(find=VisibleImages.find_file, choose=representations.original, cache_control=cache_control)
_THUMBNAILS = {
    kind.value: Resource(
        find=VisibleImages.find,
        choose=partial(representations.thumbnail, kind=kind),
        cache_control=rendition_cache_control,
    )
    for kind in THUMBNAIL_SIDES
}
_OPTIMISED = {
    takes_webp: Resource(
        find=VisibleImages.find,
        choose=partial(representations.optimised, takes_webp=takes_webp),
        cache_control=rendition_cache_control,
        vary="Accept",
    )
    for takes_webp in (True, False)
}
HANDLERS: list[ControllerRouterHandler] = [metadata, file, thumbnail, optimised, create_link]

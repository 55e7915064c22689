"""Reading one image over HTTP: its metadata and its bytes."""

from __future__ import annotations

from typing import Annotated, Literal, cast

from dishka.integrations.litestar import FromDishka, inject
from litestar import MediaType, Response, route
from litestar.params import Parameter
from litestar.types import ASGIApp, ControllerRouterHandler

from chitram.delivery.domain.caching import cache_control, metadata_cache_control
from chitram.delivery.domain.errors import ThumbnailNotReady
from chitram.delivery.entrypoints import openapi
from chitram.delivery.entrypoints.links import create_link
from chitram.delivery.entrypoints.send import CONDITIONS, SendObject
from chitram.delivery.entrypoints.visible import AnyRequest, VisibleImages
from chitram.delivery.ports import Delivery, ImageFiles
from chitram.images.public import ImageBody
from chitram.kernel.clock import Clock
from chitram.platform.http.headers import joined_lines
from chitram.platform.http.limits import SendLimits
from chitram.platform.http.openapi import READ_METHODS, reads
from chitram.platform.http.rate_limits import RATE_LIMIT
from chitram.platform.rate_limits.policy import READS

_RETRY_THUMBNAIL_SECONDS = 2
# Handlers of their own, for Litestar does not let two controllers share a path.
_IMAGE = "/api/v1/images/{image_id:str}"
_TAGS = ["images"]


@route(
    _IMAGE,
    tags=_TAGS,
    http_method=READ_METHODS,
    operation_id=reads("Image"),
    summary="Describe an image",
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
    responses=openapi.FILE_REFUSALS,
    opt={RATE_LIMIT: READS},
)
@inject
async def file(
    request: AnyRequest,
    image_id: Annotated[str, openapi.IMAGE_ID],
    visible: FromDishka[VisibleImages],
    files: FromDishka[ImageFiles],
    delivery: FromDishka[Delivery],
    clock: FromDishka[Clock],
    limits: FromDishka[SendLimits],
) -> ASGIApp:
    """Send the stored bytes of an image, or have them sent by the proxy or the store."""
    seen = await visible.find_file(request, image_id)
    view = seen.view
    return SendObject(
        open_object=lambda: files.open(view),
        size=view.file_size,
        media_type=view.content_type,
        etag=f'"{view.checksum}"',
        last_modified=view.created_at,
        filename=view.filename,
        cache_control=cache_control(view.visibility, view.expires_at, clock.now()),
        method=request.method,
        headers={name: value for name in CONDITIONS if (value := joined_lines(request, name))},
        seconds=limits.seconds,
        hand_over=lambda: delivery.hand_over(view, seen.seconds),
    )


@route(
    f"{_IMAGE}/thumbnail",
    tags=_TAGS,
    http_method=READ_METHODS,
    operation_id=reads("ImageThumbnail"),
    summary="Send a thumbnail",
    operation_class=openapi.SendsThumbnail,
    responses=openapi.THUMBNAIL_REFUSALS,
    opt={RATE_LIMIT: READS},
)
@inject
async def thumbnail(
    request: AnyRequest,
    image_id: Annotated[str, openapi.IMAGE_ID],
    visible: FromDishka[VisibleImages],
    size: Annotated[  # noqa: ARG001 - checked by its type
        Literal["small", "medium", "large"], Parameter(description="150, 300 or 600 pixels")
    ] = "medium",
) -> None:
    """Send a thumbnail. None is made yet, so an existing image answers that it is not ready."""
    await visible.find(request, image_id)
    raise ThumbnailNotReady(retry_after=_RETRY_THUMBNAIL_SECONDS)


HANDLERS: list[ControllerRouterHandler] = [metadata, file, thumbnail, create_link]

"""Making signed links to private images."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any

import msgspec
from dishka.integrations.litestar import FromDishka, inject
from litestar import Request, Response, post

from chitram.accounts.public import Authenticator, Scope, principal_of
from chitram.delivery.domain.links import LONGEST_SECONDS, SignedLinks
from chitram.delivery.entrypoints import openapi
from chitram.delivery.entrypoints.oversight import Oversight
from chitram.delivery.entrypoints.visible import VisibleImages
from chitram.images.public import image_body, require_owner
from chitram.kernel.clock import Clock
from chitram.platform.http.head import RequestHead
from chitram.platform.http.json import read_json
from chitram.platform.http.openapi import SIGNED_IN
from chitram.platform.http.rate_limits import RATE_LIMIT
from chitram.platform.rate_limits.policy import READS


class LinkRequest(msgspec.Struct, frozen=True):
    """For how many seconds a link is to work."""

    expires_in: Annotated[int, msgspec.Meta(ge=1, le=LONGEST_SECONDS)]


class LinkBody(msgspec.Struct, frozen=True):
    """A link, and when it stops working. It is a path unless the server knows its own address."""

    url: str
    expires_at: datetime


@post(
    "/api/v1/images/{image_id:str}/links",
    tags=["images"],
    operation_id="createImageLink",
    summary="Make a link to a private image",
    operation_class=openapi.TakesLinkRequest,
    security=SIGNED_IN,
    responses=openapi.LINK_REFUSALS,
    opt={RATE_LIMIT: READS},
)
@inject
async def create_link(
    request: Request[Any, Any, Any],
    image_id: Annotated[str, openapi.IMAGE_ID],
    authenticator: FromDishka[Authenticator],
    visible: FromDishka[VisibleImages],
    links: FromDishka[SignedLinks],
    oversight: FromDishka[Oversight],
    clock: FromDishka[Clock],
) -> Response[LinkBody]:
    """Make a link that shows an image's file to whoever has it, until it expires.

    Only the owner of the image and administrators may. A link works no longer than its image lives,
    but longer than the key it was made with, which therefore has to be one for writing.
    """
    viewer = await principal_of(request.headers, authenticator)
    seen = await visible.find(RequestHead(request.scope), viewer, image_id)
    require_owner(seen.view.owner_id, viewer, Scope.WRITE)
    wanted = await read_json(request.receive, LinkRequest)
    expires_at = _end(wanted.expires_in, seen.view.expires_at, clock.now())
    await oversight.record(viewer, "image.link", seen.view, expires_at=expires_at.isoformat())
    url = links.make(seen.view.id, image_body(seen.view).url, expires_at)
    return Response(LinkBody(url, expires_at), status_code=201, headers={"cache-control": "no-store"})


def _end(seconds: int, image_expires_at: datetime | None, now: datetime) -> datetime:
    """When the link ends: in so many seconds, or with its image, and on a whole second."""
    end = now + timedelta(seconds=seconds)
    return min(end, image_expires_at or end).replace(microsecond=0)

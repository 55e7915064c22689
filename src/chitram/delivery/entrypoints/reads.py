"""Reading one image over HTTP: its metadata and its bytes, for whoever routes requests here."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from chitram.accounts.public import (
    Authenticator,
    OncePerRequest,
    SharedAuthenticator,
    account_of,
    principal_of,
)
from chitram.delivery import representations
from chitram.delivery.domain.accept import names_media_type
from chitram.delivery.domain.caching import cache_control, metadata_cache_control, rendition_cache_control
from chitram.delivery.entrypoints.image_bytes import ImageBytes, Resource
from chitram.delivery.entrypoints.visible import VisibleImages
from chitram.images.public import THUMBNAIL_SIDES, RenditionKind
from chitram.kernel.errors import InvalidRequest
from chitram.platform.http.answers import JsonAnswer
from chitram.platform.http.errors import answer_to
from chitram.platform.http.head import RequestHead
from chitram.platform.http.rate_limits import Metering
from chitram.platform.rate_limits.policy import READS, Policy

_WEBP = "image/webp"
_METHODS = frozenset({"GET", "HEAD"})
# Addresses in their usual form; whatever else leads to an image is found by the framework.
_ADDRESS = re.compile(
    r"/api/v1/images/([0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12})(/file|/thumbnail|/optimised|)"
)
# What the framework does not refuse (RFC 3986, section 3.2).
_HOST = re.compile(rb"[0-9A-Za-z!$&'()*+,;=\-._~:\[\]@%]*")


class ReadEndpoints:
    """What is answered at the addresses of an image; raises what is to be refused."""

    def __init__(self, visible: VisibleImages, image_bytes: ImageBytes) -> None:
        self._visible = visible
        self._bytes = image_bytes

    async def metadata(self, head: RequestHead, authenticator: Authenticator, image_id: str) -> JsonAnswer:
        """Describe an image."""
        viewer = await principal_of(head, authenticator)
        seen = await self._visible.find(head, viewer, image_id)
        kept = metadata_cache_control(seen.view.visibility)
        fields = ((b"cache-control", kept.encode()), (b"x-cache", seen.x_cache.value.encode()))
        return JsonAnswer(seen.image.body, fields)

    async def file(self, head: RequestHead, authenticator: Authenticator, image_id: str) -> ASGIApp:
        """Send the stored bytes of an image, or have them sent by the proxy or the store."""
        return await self._send(_FILE, head, authenticator, image_id)

    async def thumbnail(self, head: RequestHead, authenticator: Authenticator, image_id: str) -> ASGIApp:
        """Send the thumbnail of the size that the query names last."""
        sizes = head.parameters("size") or [RenditionKind.MEDIUM.value]
        return await self._send(_thumbnail_of(sizes[-1]), head, authenticator, image_id)

    async def optimised(self, head: RequestHead, authenticator: Authenticator, image_id: str) -> ASGIApp:
        """Send an image as it looks, in the fewest bytes there are for this client."""
        takes_webp = names_media_type(head.line(b"accept"), _WEBP)
        return await self._send(_OPTIMISED[takes_webp], head, authenticator, image_id)

    async def _send(
        self, resource: Resource, head: RequestHead, authenticator: Authenticator, image_id: str
    ) -> ASGIApp:
        viewer = await principal_of(head, authenticator)
        return await self._bytes.answer(head, viewer, image_id, resource)


Endpoint = Callable[[RequestHead, Authenticator, str], Awaitable[ASGIApp]]


class Reads:
    """Answers requests at the addresses of an image without the framework around each of them."""

    def __init__(
        self, endpoints: ReadEndpoints, authenticator: SharedAuthenticator, metering: Metering
    ) -> None:
        self._endpoints: Mapping[str, Endpoint] = {
            "": endpoints.metadata,
            "/file": endpoints.file,
            "/thumbnail": endpoints.thumbnail,
            "/optimised": endpoints.optimised,
        }
        self._authenticator = authenticator
        self._metering = metering
        self._policy = metering.policy(READS)

    async def answer(self, image_id: str, resource: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer GET or HEAD of a resource of an image, refusals too."""
        sending = _Sending(send)
        try:
            head = RequestHead(scope)
            authenticator: Authenticator = self._authenticator
            if self._policy:
                authenticator = OncePerRequest(self._authenticator)
                await self._charge(self._policy, scope, head, authenticator, sending)
            answer = await self._endpoints[resource](head, authenticator, image_id)
            await answer(scope, receive, sending)
        except Exception as error:
            if sending.has_begun:
                raise
            await answer_to(error)(scope, receive, sending.send)

    async def _charge(
        self, policy: Policy, scope: Scope, head: RequestHead, authenticator: Authenticator, sending: _Sending
    ) -> None:
        meter = await self._metering.meter(policy, scope, lambda _: account_of(head, authenticator))
        if meter:
            # A refusal brings itself what is to be said of the limit.
            await meter.charge()
            sending.send = meter.telling(sending.send)


class _Sending:
    """Sends an answer, and knows whether it has begun."""

    __slots__ = ("has_begun", "send")

    def __init__(self, send: Send) -> None:
        self.send = send
        self.has_begun = False

    def __call__(self, message: Message) -> Awaitable[None]:
        self.has_begun = True
        return self.send(message)


class ReadsFirst:
    """ASGI layer that answers reads of images, and leaves everything else to the framework.

    Args:
        app: all of the application; it answers the same reads in the same way, at more expense.
        reads: gives what answers them.
    """

    def __init__(self, app: ASGIApp, reads: Callable[[], Awaitable[Reads]]) -> None:
        self._app = app
        self._make = reads
        self._reads: Reads | None = None

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        found = _address_of(scope)
        if found is None:
            return self._app(scope, receive, send)
        if self._reads is None:
            return self._answer_first(found, scope, receive, send)
        return self._reads.answer(found[1], found[2], scope, receive, send)

    async def _answer_first(self, found: re.Match[str], scope: Scope, receive: Receive, send: Send) -> None:
        self._reads = await self._make()
        await self._reads.answer(found[1], found[2], scope, receive, send)


def _address_of(scope: Scope) -> re.Match[str] | None:
    """The id and the resource that a request reads; None when it is for the framework to look at."""
    if scope["type"] != ScopeType.HTTP or scope["method"] not in _METHODS or scope.get("root_path"):
        return None
    found = _ADDRESS.fullmatch(scope["path"])
    if found:
        for name, value in scope["headers"]:
            if name == b"host" and not _HOST.fullmatch(value):
                return None
    return found


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

"""Answering with bytes that show an image, whoever sends them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial

import msgspec
import structlog
from litestar.types import ASGIApp, Receive, Scope, Send

from chitram.accounts.public import Principal
from chitram.delivery.entrypoints.send import SendObject
from chitram.delivery.entrypoints.small_bodies import SmallBodies
from chitram.delivery.entrypoints.visible import Seen, VisibleImages
from chitram.delivery.ports import Delivery, ImageFiles, ObjectMissing
from chitram.delivery.representations import Representation
from chitram.images.public import ImageView
from chitram.kernel.clock import Clock
from chitram.platform.http.head import RequestHead
from chitram.platform.http.limits import SendLimits

_log = structlog.get_logger("chitram.delivery")


class Resource(msgspec.Struct, frozen=True, kw_only=True):
    """What is sent at an address of an image.

    Attributes:
        find: reads the image as far as the viewer may see it here.
        choose: the representation to send; raises what there is to say when there is none.
        cache_control: of a visibility, an end and the time.
        vary: request headers that choose between representations.
    """

    find: Callable[[VisibleImages, RequestHead, Principal, str], Awaitable[Seen]]
    choose: Callable[[ImageView], Representation]
    cache_control: Callable[[str, datetime | None, datetime], str]
    vary: str | None = None


class ImageBytes:
    """Makes answers with bytes of images.

    Args:
        visible: finds images, as lately as a cache allows.
        latest: finds them as they are now.
        files: opens what this server sends itself.
        delivery: has others send it.
        clock: tells how long an image has left.
        limits: on sending.
    """

    def __init__(
        self,
        visible: VisibleImages,
        latest: VisibleImages,
        files: ImageFiles,
        delivery: Delivery,
        clock: Clock,
        limits: SendLimits,
    ) -> None:
        self._visible = visible
        self._latest = latest
        self._files = files
        self._delivery = delivery
        self._clock = clock
        self._limits = limits
        self._bodies = SmallBodies()

    async def answer(
        self, head: RequestHead, viewer: Principal, image_id: str, resource: Resource
    ) -> ASGIApp:
        """Answer GET or HEAD of a resource of an image. Raises `ImageNotFound` and what `choose` does."""
        sending = await self._sending(self._visible, head, viewer, image_id, resource)
        return _Answer(sending, partial(self._sending, self._latest, head, viewer, image_id, resource))

    async def _sending(
        self, visible: VisibleImages, head: RequestHead, viewer: Principal, image_id: str, resource: Resource
    ) -> SendObject:
        seen = await resource.find(visible, head, viewer, image_id)
        view = seen.view
        return SendObject(
            chosen=seen.image.representation(resource.choose),
            head=head,
            files=self._files,
            bodies=self._bodies,
            delivery=self._delivery,
            cache_control=resource.cache_control(view.visibility, view.expires_at, self._clock.now()),
            seconds=self._limits.seconds,
            visible_seconds=seen.seconds,
            vary=resource.vary,
        )


class _Answer(msgspec.Struct, frozen=True):
    """Sends what was chosen, or, where no store has it, what has taken its place meanwhile."""

    sending: SendObject
    latest: Callable[[], Awaitable[SendObject]]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self.sending(scope, receive, send)
        except ObjectMissing:
            again = await self.latest()
            try:
                await again(scope, receive, send)
            except ObjectMissing:
                chosen = again.chosen
                _log.error("object missing", blob=str(chosen.blob_id), key=chosen.key, store=chosen.shard)
                raise

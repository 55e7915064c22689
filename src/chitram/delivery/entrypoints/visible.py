"""Which image a request may see, by who makes it or by the link it follows."""

from __future__ import annotations

from datetime import datetime

import msgspec

from chitram.accounts.public import Principal
from chitram.delivery.domain.links import SignedLinks
from chitram.delivery.entrypoints.oversight import Oversight
from chitram.delivery.ports import ImageReads, ReadImage, XCache
from chitram.images.public import (
    ImageNotFound,
    ImageView,
    has_expired,
    may_see,
    parse_image_id,
)
from chitram.kernel.clock import Clock
from chitram.platform.http.head import RequestHead


class Seen(msgspec.Struct, frozen=True):
    """An image, and where it was read from.

    `seconds` is for how many whole seconds it may be seen at most; None is without an end.
    """

    image: ReadImage
    x_cache: XCache
    seconds: int | None

    @property
    def view(self) -> ImageView:
        """The image itself."""
        return self.image.view


class VisibleImages:
    """Finds images as far as those who ask may see them; others do not exist for them."""

    def __init__(self, reads: ImageReads, links: SignedLinks, oversight: Oversight, clock: Clock) -> None:
        self._reads = reads
        self._links = links
        self._oversight = oversight
        self._clock = clock

    def over(self, reads: ImageReads) -> VisibleImages:
        """The same, as another source has the images."""
        return VisibleImages(reads, self._links, self._oversight, self._clock)

    async def find(self, head: RequestHead, viewer: Principal, image_id: str) -> Seen:
        """Read an image that the viewer may see. Raises `ImageNotFound`."""
        image, x_cache = await self._read(image_id)
        if not _may_see(image.view, viewer):
            raise ImageNotFound
        await self._record(head, viewer, image.view)
        return Seen(image, x_cache, self._seconds_until(image.view.expires_at))

    async def find_file(self, head: RequestHead, viewer: Principal, image_id: str) -> Seen:
        """Do as `find`, and let those in too who come with a signed link to the file."""
        image, x_cache = await self._read(image_id)
        view = image.view
        until = view.expires_at
        if not _may_see(view, viewer):
            linked = self._links.open_until(
                view.id, head.parameters("expires"), head.parameters("signature"), self._clock.now()
            )
            if linked is None:
                raise ImageNotFound
            until = min(linked, until or linked)
        else:
            await self._record(head, viewer, view)
        return Seen(image, x_cache, self._seconds_until(until))

    async def _record(self, head: RequestHead, viewer: Principal, view: ImageView) -> None:
        """Write down that an administrator sees somebody's private image."""
        if view.visibility == "private":
            await self._oversight.record(viewer, "image.read", view, method=head.method, path=head.path)

    async def _read(self, image_id: str) -> tuple[ReadImage, XCache]:
        image, x_cache = await self._reads.find(parse_image_id(image_id))
        if image is None:
            raise ImageNotFound
        expires_at = image.view.expires_at
        if expires_at is not None and has_expired(expires_at, self._clock.now()):
            raise ImageNotFound
        return image, x_cache

    def _seconds_until(self, end: datetime | None) -> int | None:
        return None if end is None else int((end - self._clock.now()).total_seconds())


def _may_see(view: ImageView, viewer: Principal) -> bool:
    return may_see(
        view.visibility, view.owner_id, viewer_id=viewer.viewer_id, viewer_is_admin=viewer.sees_all
    )

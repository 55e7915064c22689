"""An API as its clients reach it in each mode of delivery."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import httpx

from chitram.images.public import RenditionKind
from chitram.platform.objects.base import ObjectStore
from chitram.platform.signing import Signer
from tests.support.api import SECRET_KEY, Api
from tests.support.images import add_image
from tests.support.photos import jpeg
from tests.support.renditions import Put, mark_processed, put_rendition

MODES = ["app", "accel", "redirect"]
NOT_FOUND = (404, "IMAGE_NOT_FOUND")
EPOCH = "Thu, 01 Jan 1970 00:00:00 GMT"
LATER = "Fri, 01 Jan 2100 00:00:00 GMT"
NAME = "ఒక చిత్రం; \"a\" 'b'.jpg"
_ENCODINGS = {
    RenditionKind.SMALL: "webp",
    RenditionKind.MEDIUM: "jpeg",
    RenditionKind.LARGE: "png",
    RenditionKind.OPTIMISED: "jpeg",
    RenditionKind.OPTIMISED_WEBP: "webp",
}


@dataclass
class Served:
    """An API in one mode, with a large image in it that has a rendition of every kind."""

    mode: str
    api: Api
    store: ObjectStore
    image: dict[str, Any]
    content: bytes
    renditions: Mapping[RenditionKind, Put]

    @property
    def url(self) -> str:
        return str(self.image["url"])

    @property
    def etag(self) -> str:
        return f'"{self.image["checksum"]}"'

    def at(self, resource: str, image_id: str | None = None) -> str:
        """Address of a resource of the image, or of another."""
        return f"/api/v1/images/{image_id or self.image['id']}/{resource}"

    async def get(self, url: str | None = None, method: str = "GET", **headers: str) -> httpx.Response:
        """Ask as a browser does, which follows redirects and repeats its header fields there."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.api.client.request(method, url or self.url, headers=named, follow_redirects=True)

    async def same(self, **fields: Any) -> str:
        """Another image over the same bytes, and its id."""
        return await add_image(self.api.database_url, self.image["id"], **fields)

    async def uploaded(self, width: int, *kinds: RenditionKind, optimised: bool = False) -> str:
        """An image of its own, processed as far as these renditions; its id."""
        image_id: str = (await self.api.uploaded(jpeg(width, 60), "other.jpg"))["id"]
        for kind in kinds:
            await put_rendition(self.api.database_url, self.store, image_id, kind)
        if kinds or optimised:
            await mark_processed(self.api.database_url, image_id, optimised=optimised)
        return image_id


async def serve(mode: str, api: Api, store: ObjectStore) -> Served:
    """Upload what is served, and put its renditions."""
    image = await api.uploaded(jpeg(1500, 1100, quality=95), NAME)
    assert image["file_size"] > 300_000
    put = {
        kind: await put_rendition(api.database_url, store, image["id"], kind, encoding)
        for kind, encoding in _ENCODINGS.items()
    }
    await mark_processed(api.database_url, image["id"])
    served = Served(mode, api, store, image, b"", put)
    served.content = (await served.get()).content
    return served


def from_the_app(answer: httpx.Response) -> httpx.Response:
    """An answer that no redirect led to."""
    assert answer.history == []
    return answer


def code_of(answer: httpx.Response) -> tuple[int, str]:
    """Status and code of a refusal."""
    return answer.status_code, from_the_app(answer).json()["error"]["code"]


def signed(image_id: str, seconds: int) -> str:
    """A link to an image's file that works for so many seconds."""
    expires = str(int(datetime.now(UTC).timestamp()) + seconds)
    signature = Signer((SECRET_KEY,), "image link").sign("file", image_id, expires)
    return f"/api/v1/images/{image_id}/file?expires={expires}&signature={signature}"


async def private_image(served: Served) -> str:
    """A private image over the same bytes, of nobody that the tests know; its id."""
    return await served.same(owner=uuid4())

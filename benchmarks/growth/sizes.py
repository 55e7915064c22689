"""How rates change with the number of images."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

from benchmarks.growth.asking import ask, put, read
from benchmarks.growth.curves import Point
from benchmarks.growth.site import Site
from tests.support.bulk import delete_token
from tests.support.steady_load import Request

_SECONDS = 8.0
_CONNECTIONS = 64
_FEW = 8
_CHANGES = 400
# So long the cache is filled at most, with one image after the other.
_WARM_SECONDS = 40.0
_READS_A_SECOND = 3000
_DELETABLE = "owner_id IS NULL AND filename = 'made.jpg'"


async def measure_size(site: Site, images: int) -> dict[str, Point]:
    """What is measured at one size, by name of the curve."""
    stack, metadata = site.stack, [f"/api/v1/images/{image_id}" for image_id in await site.ids()]
    await site.empty_caches()
    cold = await site.measured(images, read(stack, metadata, _CONNECTIONS, _SECONDS))
    warm_seconds = min(_WARM_SECONDS, 1 + len(metadata) / _READS_A_SECOND)
    await read(stack, metadata, _CONNECTIONS, warm_seconds, first=0)
    warm = await site.measured(images, read(stack, metadata, _CONNECTIONS, _SECONDS))
    listing = read(stack, ["/api/v1/images?limit=20"], _FEW, _SECONDS / 2, fields=site.headers())
    deletes = _deletes(await site.ids(_DELETABLE, _CHANGES))
    return {
        "metadata, any image, cache empty at first": cold,
        "metadata, any image, after reading them": warm,
        "first page of one's own images": await site.measured(images, listing),
        "upload of 200 KB": await site.measured(images, put(stack, _FEW, _CHANGES)),
        "delete": await site.measured(images, ask(stack, deletes, _FEW, 204)),
    }


def _deletes(ids: list[str]) -> Iterator[Request]:
    for image_id in ids:
        token = delete_token(UUID(image_id))
        yield Request("delete", "DELETE", f"/api/v1/images/{image_id}", headers=(("x-delete-token", token),))

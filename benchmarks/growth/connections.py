"""How rate and time of an answer change with the number of connections."""

from __future__ import annotations

from benchmarks.growth.asking import PHOTO_BYTES, read
from benchmarks.growth.curves import Curve, Figure
from benchmarks.growth.site import Site
from benchmarks.photos import of_bytes

CONNECTIONS = (1, 8, 64, 256, 1000)
_SECONDS = 6.0
_WARM_SECONDS = 2.0
_HOT_IDS = 1000


async def measure_connections(site: Site) -> Figure:
    """Metadata of a thousand images at random, and one file of 200 KB."""
    uploaded = await site.stack.api.uploaded(of_bytes(PHOTO_BYTES))
    metadata = [f"/api/v1/images/{image_id}" for image_id in await site.ids(most=_HOT_IDS)]
    curves = []
    for name, paths in (("metadata of 1,000 images", metadata), ("a file of 200 KB", [uploaded["url"]])):
        await read(site.stack, paths, 64, _WARM_SECONDS)
        points = [
            await site.measured(count, read(site.stack, paths, count, _SECONDS)) for count in CONNECTIONS
        ]
        curves.append(Curve(name=name, points=points))
    return Figure(key="connections", title="Reads as connections grow", over="connections", curves=curves)

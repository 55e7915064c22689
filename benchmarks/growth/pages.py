"""How long a page of one's own images takes, from the first to the last of a million."""

from __future__ import annotations

from benchmarks.growth.asking import read
from benchmarks.growth.curves import Curve, Figure, Point
from benchmarks.growth.site import Site
from chitram.images.entrypoints.listing import LIST
from chitram.platform.http.cursors import LONGEST_PAGE, PURPOSE, Cursors
from chitram.platform.signing import Signer
from tests.support.api import SECRET_KEY

PAGES = (1, 10, 100, 1000, 10_000)
_SECONDS = 4.0
_LAST_BEFORE = """
SELECT id FROM images WHERE owner_id = $1 ORDER BY id DESC OFFSET $2 LIMIT 1
"""


async def measure_pages(site: Site) -> Figure:
    """Pages of a hundred by their number, as far as there are, over one connection."""
    owned = await site.connection.fetchval("SELECT used_images FROM users WHERE id = $1", site.collector.id)
    numbers = [number for number in PAGES if number * LONGEST_PAGE <= owned]
    curves = [
        Curve(name=name, points=[await _page(site, number, query) for number in numbers])
        for name, query in (
            ("all", ""),
            ("PNG, a tenth of them", "&content_type=image/png"),
            ("private, none of them", "&visibility=private"),
        )
    ]
    return Figure(
        key="pages",
        title=f"Listing {owned:,} images of one account, {LONGEST_PAGE} a page",
        over="number of the page",
        curves=curves,
    )


async def _page(site: Site, number: int, query: str) -> Point:
    path = f"/api/v1/images?limit={LONGEST_PAGE}{query}{await _cursor(site, number)}"
    return await site.measured(number, read(site.stack, [path], 1, _SECONDS, fields=site.headers()))


async def _cursor(site: Site, number: int) -> str:
    """What asks for a page, as the answer with the page before it has it."""
    if number == 1:
        return ""
    owner_id = site.collector.id
    last = await site.connection.fetchval(_LAST_BEFORE, owner_id, (number - 1) * LONGEST_PAGE - 1)
    return f"&cursor={Cursors(Signer((SECRET_KEY,), PURPOSE)).make(last, LIST, owner_id)}"

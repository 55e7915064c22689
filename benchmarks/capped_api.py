"""`chitram api` that remembers no more than so many images in each process.

As a program: `python -m benchmarks.capped_api`.
"""

from __future__ import annotations

from dishka import Provider, Scope
from litestar.types import ASGIApp

from chitram.delivery.adapters.metadata_cache.entries import LocalEntries
from chitram.main import api
from chitram.platform.settings import load_settings

MOST = 1_000
PROGRAM = (__name__,)


def app() -> ASGIApp:
    """Make the application of one server process."""
    capped = Provider(Scope.APP)
    capped.provide(lambda: LocalEntries(MOST), provides=LocalEntries)
    return api.app_of_worker(capped)


if __name__ == "__main__":
    raise SystemExit(api.run(load_settings(), f"{__spec__.name}:app"))

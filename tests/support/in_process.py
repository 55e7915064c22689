"""The whole application in this process, with a stand-in where a test needs one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import cast
from uuid import UUID

import httpx
from dishka import Provider, Scope, provide
from litestar.types import ASGIApp, LifeSpanReceive, LifeSpanScope, LifeSpanSend

from chitram.accounts.public import ANONYMOUS, Principal, SharedAuthenticator
from chitram.main.api import make_app
from chitram.platform.settings import Settings

ADMIN = UUID("00000000-0000-7000-8000-000000000000")


class BelievesNames:
    """An authenticator that takes everyone for who they say they are."""

    async def principal(self, authorization: str | None, api_key: str | None) -> Principal:
        name = (authorization or "").removeprefix("Bearer ")
        if not name:
            return ANONYMOUS
        return Principal(ADMIN, is_admin=True) if name == "admin" else Principal(UUID(name))


class People(Provider):
    """Puts the stand-in in the place of the authenticator."""

    scope = Scope.APP
    authenticator = provide(BelievesNames, provides=SharedAuthenticator)


def signed_in(user_id: UUID | str) -> dict[str, str]:
    """Header fields of a request that somebody makes; `admin` is an administrator."""
    return {"authorization": f"Bearer {user_id}"}


@contextlib.asynccontextmanager
async def in_process(settings: Settings, *others: Provider) -> AsyncIterator[httpx.AsyncClient]:
    """Run the application; gives a client of it."""
    app = make_app(settings, *others)
    async with _lifespan(app):
        transport = httpx.ASGITransport(app)  # type: ignore[arg-type] # Litestar's types of ASGI are narrower
        async with httpx.AsyncClient(transport=transport, base_url="http://chitram") as client:
            yield client


@contextlib.asynccontextmanager
async def _lifespan(app: ASGIApp) -> AsyncIterator[None]:
    asked: asyncio.Queue[str] = asyncio.Queue()
    told: asyncio.Queue[str] = asyncio.Queue()

    async def receive() -> dict[str, str]:
        return {"type": await asked.get()}

    async def send(message: dict[str, str]) -> None:
        await told.put(message["type"])

    scope = cast("LifeSpanScope", {"type": "lifespan", "asgi": {"version": "3.0"}})
    running = asyncio.ensure_future(
        app(scope, cast("LifeSpanReceive", receive), cast("LifeSpanSend", send))  # type: ignore[arg-type] # narrower
    )
    await asked.put("lifespan.startup")
    assert await told.get() == "lifespan.startup.complete"
    yield
    await asked.put("lifespan.shutdown")
    await running

"""How often a request asks who makes it, and what that costs while Valkey is away."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator

import httpx
import msgspec
import pytest

from chitram.accounts.domain.principal import Scope
from chitram.platform.settings import Settings
from tests.support.credentials import People, SignedIn, bearer
from tests.support.in_process import in_process
from tests.support.photos import jpeg
from tests.support.proxy import Mode, Proxy

LIST = "/api/v1/images"
# Of one request: what ValkeyGuard allows for a look, for a turn behind others, and for the limit.
WORST_SECONDS = 2.0


@pytest.fixture(scope="module")
async def limited(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """An application all of whose limited routes ask whom they count."""
    strict = msgspec.structs.replace(settings, reads_per_minute=10_000, uploads_per_minute=10_000)
    async with in_process(strict) as opened:
        yield opened


@pytest.fixture
def asked(sent: list[bytes]) -> list[bytes]:
    """What is sent to Valkey from now on."""
    sent.clear()
    return sent


def looks(sent: list[bytes], prefix: str) -> int:
    """How often Valkey was asked for a session or a key."""
    command = re.compile(rb"[GS]ET\r\n\$\d+\r\n" + prefix.encode() + b":")
    return len(command.findall(b"".join(sent)))


async def test_a_limited_request_asks_once_who_makes_it(
    limited: httpx.AsyncClient, people: People, asked: list[bytes]
) -> None:
    somebody = await SignedIn.new(people)
    key = await people.key(somebody.user_id, Scope.READ, Scope.WRITE)
    photo = jpeg(32, 24)
    for headers, prefix in ((somebody.headers, "chitram:session"), (bearer(key), "chitram:api-key")):

        async def lists(headers: dict[str, str] = headers) -> None:
            answer = await limited.get(LIST, headers=headers)
            assert answer.status_code == 200
            assert "ratelimit" in answer.headers

        async def uploads(headers: dict[str, str] = headers) -> None:
            typed = {**headers, "content-type": "image/jpeg"}
            uploaded = await limited.post(LIST, content=photo, headers=typed)
            assert uploaded.status_code == 201
            assert uploaded.json()["owner_id"] == str(somebody.user_id)

        await lists()
        for request in (lists, uploads):
            counts: list[int] = []
            async with asyncio.timeout(10):
                # When this machine stands still for a moment, Valkey is passed over for a second.
                while 1 not in counts:
                    asked.clear()
                    await request()
                    counts.append(looks(asked, prefix))
            assert max(counts) == 1


async def test_nobody_is_asked_for_without_credentials(
    limited: httpx.AsyncClient, asked: list[bytes]
) -> None:
    await limited.get(f"{LIST}/x")
    assert looks(asked, "chitram:session") + looks(asked, "chitram:api-key") == 0


async def test_a_session_that_is_remembered_costs_the_database_nothing(
    limited: httpx.AsyncClient, people: People
) -> None:
    somebody = await SignedIn.new(people)
    await limited.get(LIST, headers=somebody.headers)
    # Behind the back of the cache: nobody is told, so it is not seen at once.
    await people.revoke(somebody.session_id)
    assert (await limited.get(LIST, headers=somebody.headers)).status_code == 200


@pytest.mark.parametrize("mode", [Mode.CUT, Mode.HANG])
async def test_without_valkey_everybody_is_known_soon(
    limited: httpx.AsyncClient, people: People, proxy: Proxy, mode: Mode
) -> None:
    somebody, gone = await SignedIn.new(people), await SignedIn.new(people)
    for one in (somebody, gone):
        assert (await limited.get(LIST, headers=one.headers)).status_code == 200
    await people.revoke(gone.session_id)
    proxy.mode = mode
    if mode is Mode.CUT:
        proxy.cut_all()
    for _ in range(3):
        began = time.monotonic()
        assert (await limited.get(LIST, headers=somebody.headers)).status_code == 200
        assert time.monotonic() - began < WORST_SECONDS
    assert (await limited.get(LIST, headers=gone.headers)).status_code == 401

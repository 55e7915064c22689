"""Two API processes: who signs out of one is refused by the other at once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.support.instances import Instance, instances
from tests.support.proxy import Mode
from tests.support.servers import drop_database, new_database

AUTH = "/api/v1/auth"
Pair = tuple[Instance, Instance]


@pytest.fixture(scope="module")
async def pair(postgres_url: str, migrated_url: str, valkey_url: str) -> AsyncIterator[Pair]:
    database_url = await new_database(postgres_url, template=migrated_url)
    async with instances(database_url, f"{valkey_url.rpartition('/')[0]}/8", 2) as (first, second):
        yield first, second
    await drop_database(database_url)


async def signed_in(instance: Instance) -> dict[str, Any]:
    body = {"email": f"{uuid4().hex}@example.com", "password": "four random words, that is"}
    answer = await instance.api.client.post(f"{AUTH}/register", json=body)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def me(instance: Instance, token: str) -> httpx.Response:
    return await instance.api.client.get(f"{AUTH}/me", headers={"authorization": f"Bearer {token}"})


def fail(instance: Instance, mode: Mode) -> None:
    instance.valkey.mode = mode
    if mode is Mode.CUT:
        instance.valkey.cut_all()


@pytest.mark.parametrize("mode", [Mode.PASS, Mode.CUT, Mode.HANG])
@pytest.mark.parametrize("who", ["here", "both"])
async def test_whoever_signs_out_here_is_refused_there_at_once(pair: Pair, mode: Mode, who: str) -> None:
    here, there = pair
    body, other = await signed_in(here), await signed_in(here)
    token = body["access_token"]
    for instance in pair:
        assert (await me(instance, token)).status_code == 200
        assert (await me(instance, other["access_token"])).status_code == 200
    try:
        for instance in pair if who == "both" else (here,):
            fail(instance, mode)
        headers = {"authorization": f"Bearer {token}"}
        assert (await here.api.client.post(f"{AUTH}/logout", headers=headers)).status_code == 204
        for instance in (there, here):
            answer = await me(instance, token)
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "INVALID_TOKEN")
            assert (await me(instance, other["access_token"])).status_code == 200
    finally:
        for instance in pair:
            fail(instance, Mode.PASS)
    assert (await me(there, token)).status_code == 401


async def test_a_used_refresh_token_ends_the_session_there_at_once(pair: Pair) -> None:
    here, there = pair
    body = await signed_in(here)
    refresh = {"refresh_token": body["refresh_token"]}
    newer = (await here.api.client.post(f"{AUTH}/refresh", json=refresh)).json()
    assert (await me(there, newer["access_token"])).status_code == 200
    assert (await here.api.client.post(f"{AUTH}/refresh", json=refresh)).status_code == 401
    assert (await me(there, newer["access_token"])).status_code == 401


async def test_a_key_that_was_removed_here_is_refused_there_at_once(pair: Pair) -> None:
    here, there = pair
    headers = {"authorization": f"Bearer {(await signed_in(here))['access_token']}"}
    wish = {"name": "a key", "scopes": ["images:read"]}
    made = (await here.api.client.post(f"{AUTH}/api-keys", json=wish, headers=headers)).json()
    assert (await me(there, made["key"])).status_code == 200
    await here.api.client.delete(f"{AUTH}/api-keys/{made['id']}", headers=headers)
    assert (await me(there, made["key"])).status_code == 401

"""How often somebody may try to sign in: by address, by account, and without Valkey."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import count
from typing import Any
from uuid import uuid4

import httpx
import pytest
from valkey.asyncio import Valkey

from chitram.platform.settings import Settings
from chitram.platform.valkey import make_valkey
from tests.api.conftest import StartApi
from tests.support.api import Api, log_of
from tests.support.proxy import Mode, Proxy

pytestmark = pytest.mark.only_over("local", reason="limits do not depend on where images are kept")

LIMIT = 3
STRANGERS = 3 * LIMIT
PASSWORD = "four random words, that is"
_numbers = count(1)


def from_anew() -> dict[str, str]:
    """Header fields of a client that no other test has used, as a trusted proxy sends them."""
    number = next(_numbers)
    return {"x-forwarded-for": f"198.51.{number // 250}.{number % 250 + 1}"}


@pytest.fixture(scope="module")
async def limited(start_api: StartApi) -> AsyncIterator[Api]:
    async with start_api(
        LOGINS_PER_MINUTE=LIMIT,
        TRUSTED_PROXIES="127.0.0.1/32",
        RATE_LIMIT_ALLOW="203.0.113.0/24",
        HTTP_WORKERS=1,
    ) as api:
        yield api


async def post(api: Api, verb: str, headers: dict[str, str], **body: Any) -> httpx.Response:
    return await api.client.post(f"/api/v1/auth/{verb}", json=body, headers=headers)


async def login(api: Api, email: str, headers: dict[str, str], password: str | None = None) -> httpx.Response:
    return await post(api, "login", headers, email=email, password=password or "not that one")


async def an_account(api: Api, headers: dict[str, str]) -> str:
    email = f"{uuid4().hex}@example.com"
    answer = await post(api, "register", headers, email=email, password=PASSWORD)
    assert answer.status_code == 201, answer.text
    return email


async def exhaust(api: Api, email: str) -> httpx.Response:
    """Try wrong passwords, each from somewhere else, until one is refused for that; returns the refusal."""
    for tried in count():
        answer = await login(api, email, from_anew())
        if answer.status_code == 429:
            # A unit comes back every 7 seconds, which a busy machine may need for all these.
            assert STRANGERS <= tried <= STRANGERS + 3
            return answer
        assert answer.status_code == 401
    raise AssertionError


async def test_an_address_may_try_so_often_whomever_it_tries(limited: Api) -> None:
    client = from_anew()
    answers = [await login(limited, f"{uuid4().hex}@example.com", client) for _ in range(LIMIT + 1)]
    assert [answer.status_code for answer in answers] == [401] * LIMIT + [429]
    assert answers[-1].json()["error"]["details"]["policy"] == "logins"
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 20


async def test_registering_counts_as_signing_in(limited: Api) -> None:
    client = from_anew()
    email = await an_account(limited, client)
    statuses = [(await login(limited, email, client)).status_code for _ in range(LIMIT)]
    assert statuses == [401] * (LIMIT - 1) + [429]
    answer = await post(limited, "register", client, email="a@example.com", password=PASSWORD)
    assert answer.status_code == 429


async def test_saying_who_one_is_gives_no_more_tries(limited: Api) -> None:
    """Whoever has many accounts has one address."""
    client = from_anew()
    tokens = []
    for _ in range(LIMIT + 1):
        home = from_anew()
        email = await an_account(limited, home)
        tokens.append((await login(limited, email, home, PASSWORD)).json()["access_token"])
    statuses = [
        (await login(limited, "a@example.com", client | {"authorization": f"Bearer {token}"})).status_code
        for token in tokens
    ]
    assert statuses == [401] * LIMIT + [429]


async def test_strangers_together_may_try_an_account_so_often(limited: Api) -> None:
    email = await an_account(limited, from_anew())
    refused = await exhaust(limited, email)
    error = refused.json()["error"]
    assert (error["code"], error["details"]["policy"]) == ("RATE_LIMIT_EXCEEDED", "account-logins")
    assert 1 <= int(refused.headers["retry-after"]) <= 7
    # Neither another spelling nor the right password changes that, and another account has its own.
    assert (await login(limited, email.upper(), from_anew(), PASSWORD)).status_code == 429
    assert (await login(limited, f"{uuid4().hex}@example.com", from_anew())).status_code == 401


async def test_an_address_without_an_account_has_the_same_limit(limited: Api) -> None:
    refused = await exhaust(limited, f"{uuid4().hex}@example.com")
    assert refused.json()["error"]["details"]["policy"] == "account-logins"


async def test_strangers_lock_nobody_out_of_where_they_signed_in_before(limited: Api) -> None:
    home, office = from_anew(), from_anew()
    email = await an_account(limited, home)
    assert (await login(limited, email, office, PASSWORD)).status_code == 200
    while (await login(limited, email, from_anew())).status_code == 401:
        pass
    for place in (home, office):
        assert (await login(limited, email, place, PASSWORD)).status_code == 200
    # These are bound by the limit of their own address.
    statuses = [(await login(limited, email, home)).status_code for _ in range(LIMIT)]
    assert statuses == [401] * (LIMIT - 2) + [429] * 2


async def test_whoever_is_signed_in_stays_so(limited: Api) -> None:
    home = from_anew()
    email = await an_account(limited, home)
    signed_in = (await login(limited, email, home, PASSWORD)).json()
    await exhaust(limited, email)
    elsewhere = from_anew()
    answer = await post(limited, "refresh", elsewhere, refresh_token=signed_in["refresh_token"])
    assert answer.status_code == 200


async def test_an_address_of_the_allow_list_is_never_limited(limited: Api) -> None:
    friend = {"x-forwarded-for": "203.0.113.7"}
    email = await an_account(limited, from_anew())
    await exhaust(limited, email)
    statuses = [(await login(limited, email, friend)).status_code for _ in range(LIMIT + 2)]
    assert statuses == [401] * (LIMIT + 2)


async def test_refreshing_has_a_limit_of_its_own(limited: Api) -> None:
    client = from_anew()
    answers = [await post(limited, "refresh", client, refresh_token="none") for _ in range(6 * LIMIT + 1)]
    assert [answer.status_code for answer in answers] == [401] * (6 * LIMIT) + [429]
    assert answers[-1].json()["error"]["details"]["policy"] == "refreshes"
    assert (await login(limited, "a@example.com", client)).status_code == 401


async def test_valkey_is_not_told_who_tries_to_sign_in(limited: Api, valkey_url: str) -> None:
    email = f"{uuid4().hex}@example.com"
    async with make_valkey(Settings(valkey_url=valkey_url)) as client:
        before = await limits_of_accounts(client)
        await login(limited, email, from_anew())
        (key,) = await limits_of_accounts(client) - before
    assert len(key) == len("chitram:rate:1:account-logins:email:") + 43
    assert email not in log_of(limited)


async def limits_of_accounts(client: Valkey) -> set[str]:
    return {key.decode() async for key in client.scan_iter("chitram:rate:1:account-logins:*", count=1000)}


async def test_both_limits_hold_without_valkey(start_api: StartApi, valkey_url: str) -> None:
    async with (
        Proxy(valkey_url) as proxy,
        start_api(
            VALKEY_URL=proxy.url, LOGINS_PER_MINUTE=LIMIT, HTTP_WORKERS=1, TRUSTED_PROXIES="127.0.0.1"
        ) as api,
    ):
        email = await an_account(api, from_anew())
        proxy.mode = Mode.CUT
        proxy.cut_all()
        client = from_anew()
        statuses = [(await login(api, f"{uuid4().hex}@example.com", client)).status_code for _ in range(4)]
        assert statuses == [401] * LIMIT + [429]
        await exhaust(api, email)

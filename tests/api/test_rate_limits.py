"""Limits as clients see them, and whose word about a client's address is taken."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from chitram.platform.settings import Settings
from chitram.platform.valkey import make_valkey
from tests.api.conftest import StartApi
from tests.support.api import UPLOAD, Api
from tests.support.connections import connection
from tests.support.database import NewUrl
from tests.support.in_process import People, in_process, signed_in
from tests.support.photos import jpeg
from tests.support.proxy import Mode, Proxy

pytestmark = pytest.mark.only_over("local", reason="limits do not depend on where images are kept")

LIMIT = 3
PHOTO = jpeg(16, 16)
_numbers = count(1)


def a_client() -> dict[str, str]:
    """Header fields of a client that no other test has used, as a trusted proxy sends them."""
    number = next(_numbers)
    return {"x-forwarded-for": f"203.0.{number // 250}.{number % 250 + 1}"}


@pytest.fixture(scope="module")
async def limited(start_api: StartApi) -> AsyncIterator[Api]:
    """An API with small limits that believes proxies on 127.0.0.1, and knows one client as a friend."""
    async with start_api(
        UPLOADS_PER_MINUTE=LIMIT,
        READS_PER_MINUTE=LIMIT,
        TRUSTED_PROXIES="127.0.0.1/32",
        RATE_LIMIT_ALLOW="192.0.2.128/25,2001:db8:1::/48",
    ) as api:
        yield api


async def post(api: Api, headers: dict[str, str], content: bytes = PHOTO) -> httpx.Response:
    return await api.client.post("/api/v1/images", content=content, headers=headers)


async def exhaust(api: Api, headers: dict[str, str]) -> httpx.Response:
    """Take all that a client may upload, and return the refusal after it."""
    for _ in range(LIMIT):
        assert (await post(api, headers)).status_code == 201
    refused = await post(api, headers)
    assert refused.status_code == 429
    return refused


async def test_a_refusal_has_the_one_format_and_says_when_to_come_back(limited: Api) -> None:
    refused = await exhaust(limited, a_client())
    assert refused.headers["cache-control"] == "no-store"
    error = refused.json()["error"]
    wait = int(refused.headers["retry-after"])
    assert 1 <= wait <= 20
    assert error["code"] == "RATE_LIMIT_EXCEEDED"
    assert error["details"] == {
        "policy": "uploads",
        "limit": LIMIT,
        "window_seconds": 60,
        "retry_after": wait,
    }
    assert refused.headers["ratelimit-policy"] == '"uploads";q=3;w=60'
    assert refused.headers["ratelimit"] == f'"uploads";r=0;t={wait}'
    assert refused.headers["x-request-id"]


async def test_every_answer_of_a_limited_route_says_what_is_left(limited: Api) -> None:
    client = a_client()
    good, bad = await post(limited, client), await post(limited, client, b"no image")
    assert (good.status_code, bad.status_code) == (201, 415)
    for answer, left in ((good, 2), (bad, 1)):
        assert answer.headers.get_list("ratelimit-policy") == ['"uploads";q=3;w=60']
        assert re.fullmatch(rf'"uploads";r={left};t=(19|20)', answer.headers["ratelimit"])
        assert "retry-after" not in answer.headers


async def test_the_ways_to_upload_share_a_limit(limited: Api) -> None:
    client = a_client()
    files: list[Any] = [("files", ("a.jpg", PHOTO))]
    form = {"files": {"file": ("a.jpg", PHOTO)}, "headers": client}
    assert (await limited.client.post(UPLOAD, **form)).status_code == 201  # type: ignore[arg-type] # httpx's parts
    assert (await limited.client.post("/api/v1/images/batch", files=files, headers=client)).status_code == 200
    assert (await post(limited, client)).status_code == 201
    assert (await limited.client.post(UPLOAD, **form)).status_code == 429  # type: ignore[arg-type] # httpx's parts
    assert (await limited.client.post("/api/v1/images/batch", files=files, headers=client)).status_code == 429


async def test_the_steps_of_direct_uploads_have_a_limit_of_their_own_of_twice_the_uploads(
    limited: Api,
) -> None:
    """Whoever has one address could hold every upload slot by putting there again and again."""
    client, headers = limited.client, a_client()
    begun = (await client.post("/api/v1/uploads", headers=headers)).json()
    completing = f"/api/v1/uploads/{begun['upload_id']}/complete"
    token = {"x-upload-token": begun["upload_token"]}
    for left in range(2 * LIMIT - 2, -1, -1):
        put = await client.put(begun["url"], content=PHOTO, headers=headers)
        assert (put.status_code, put.headers["ratelimit"].partition(";t")[0]) == (
            204,
            f'"upload-steps";r={left + 1}',
        )
    assert (await client.post(completing, headers=headers | token)).status_code == 201
    for answer in (
        await client.put(begun["url"], content=PHOTO, headers=headers),
        await client.post(completing, headers=headers | token),
    ):
        assert answer.status_code == 429
    assert (await client.post("/api/v1/uploads", headers=headers)).status_code == 201


@pytest.mark.parametrize("rendition", ["thumbnail", "optimised"])
async def test_reads_have_a_limit_of_their_own(limited: Api, rendition: str) -> None:
    client = a_client()
    uploaded = (await post(limited, client)).json()
    path = f"/api/v1/images/{uploaded['id']}"
    answers = [
        await limited.client.get(path, headers=client),
        await limited.client.head(f"{path}/file", headers=client),
        await limited.client.get(f"{path}/{rendition}", headers=client),
        await limited.client.get(f"{path}/file", headers=client),
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 404, 429]
    assert [answer.headers["ratelimit"].partition(";t")[0] for answer in answers] == [
        f'"reads";r={left}' for left in (2, 1, 0, 0)
    ]
    # Deleting has none.
    gone = await limited.client.delete(
        path, params={"delete_token": uploaded["delete_token"]}, headers=client
    )
    assert gone.status_code == 204
    assert "ratelimit" not in gone.headers


@pytest.mark.parametrize("path", ["/health", "/health/live", "/openapi.json", "/docs", "/nowhere"])
async def test_what_is_no_image_is_not_limited(limited: Api, path: str) -> None:
    client = a_client()
    answers = [await limited.client.get(path, headers=client) for _ in range(LIMIT + 2)]
    assert {answer.status_code for answer in answers} <= {200, 404}
    assert "ratelimit" not in answers[0].headers


async def test_each_file_of_a_batch_takes_one_unit(limited: Api) -> None:
    client = a_client()
    files: list[Any] = [("files", (f"{name}.jpg", PHOTO)) for name in range(LIMIT + 2)]
    answer = await limited.client.post("/api/v1/images/batch", files=files, headers=client)
    assert answer.status_code == 200
    results = answer.json()["results"]
    assert [result["status"] for result in results] == [201] * LIMIT + [429, 429]
    assert results[-1]["error"]["code"] == "RATE_LIMIT_EXCEEDED"
    assert 1 <= results[-1]["error"]["details"]["retry_after"] <= 20
    assert answer.headers["ratelimit"].startswith('"uploads";r=0;t=')
    assert (await post(limited, client)).status_code == 429


async def test_it_refuses_before_anything_of_the_body_is_sent(limited: Api) -> None:
    client = a_client()
    await exhaust(limited, client)
    fields = "".join(f"{name}: {value}\r\n" for name, value in client.items())
    head = f"POST /api/v1/images HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n{fields}\r\n"
    async with connection(*limited.host) as (reader, writer), asyncio.timeout(5):
        writer.write(head.encode())
        assert (await reader.readline()).startswith(b"HTTP/1.1 429 ")


async def test_an_address_of_the_allow_list_is_never_limited(limited: Api) -> None:
    for address in ("192.0.2.200", "2001:db8:1:2::3"):
        for _ in range(LIMIT + 2):
            answer = await post(limited, {"x-forwarded-for": address})
            assert answer.status_code == 201
            assert "ratelimit" not in answer.headers


async def test_addresses_of_one_ipv6_network_are_one_client(limited: Api) -> None:
    network, another = (f"2001:db8:9:{next(_numbers):x}" for _ in range(2))
    for last in range(LIMIT):
        assert (await post(limited, {"x-forwarded-for": f"{network}::{last}"})).status_code == 201
    assert (await post(limited, {"x-forwarded-for": f"{network}:ffff::"})).status_code == 429
    assert (await post(limited, {"x-forwarded-for": f"{another}::"})).status_code == 201


async def test_a_client_behind_a_trusted_proxy_is_known_by_its_own_address(limited: Api) -> None:
    first, second = a_client(), a_client()
    await exhaust(limited, first)
    assert (await post(limited, second)).status_code == 201
    # What the client itself wrote stands further left.
    spoofed = {"x-forwarded-for": f"{a_client()['x-forwarded-for']}, {first['x-forwarded-for']}"}
    assert (await post(limited, spoofed)).status_code == 429


@pytest.mark.parametrize("trusted", ["", "192.0.2.0/24"])
async def test_fields_of_an_untrusted_peer_change_nothing(
    start_api: StartApi, valkey_url: str, trusted: str
) -> None:
    async with make_valkey(Settings(valkey_url=valkey_url)) as server:
        await server.delete("chitram:rate:1:uploads:address:127.0.0.1")
    async with start_api(
        UPLOADS_PER_MINUTE=LIMIT,
        TRUSTED_PROXIES=trusted,
        RATE_LIMIT_ALLOW="192.0.2.128/25",
        LOG_ADDRESSES="full",
        LOG_FORMAT="json",
    ) as api:
        statuses = []
        for address in ("203.0.113.1", "203.0.113.2", "192.0.2.200", "192.0.2.201", "2001:db8::1"):
            fields = {"x-forwarded-for": address, "forwarded": f'for="{address}"', "x-real-ip": address}
            statuses.append((await post(api, fields)).status_code)
        assert sorted(statuses) == [201] * LIMIT + [429] * 2
        # The line is written after the answer is sent.
        api.process.terminate()
        await api.process.wait()
        log = (api.data_dir / "api.log").read_text()
        assert '"client": "127.0.0.1"' in log
        assert "203.0.113" not in log


async def test_the_other_header_is_not_read(start_api: StartApi) -> None:
    async with start_api(
        UPLOADS_PER_MINUTE=LIMIT, TRUSTED_PROXIES="127.0.0.1", FORWARDED_HEADER="forwarded", HTTP_WORKERS=1
    ) as api:
        address = a_client()["x-forwarded-for"]
        for _ in range(LIMIT):
            # A client that names another in the field that its proxy leaves alone.
            both = {"forwarded": f"for={address}", **a_client()}
            assert (await post(api, both)).status_code == 201
        assert (await post(api, {"forwarded": f"for={address}", **a_client()})).status_code == 429


async def test_the_access_line_names_the_client_and_not_the_proxy(start_api: StartApi) -> None:
    async with start_api(
        TRUSTED_PROXIES="127.0.0.1", LOG_ADDRESSES="full", LOG_FORMAT="json", HTTP_WORKERS=1
    ) as api:
        await api.client.get("/nowhere", headers={"x-forwarded-for": "203.0.113.77"})
        api.process.terminate()
        await api.process.wait()
        assert '"client": "203.0.113.77"' in (api.data_dir / "api.log").read_text()


async def test_an_account_is_one_client_wherever_it_comes_from(
    new_url: NewUrl, valkey_url: str, tmp_path: Path
) -> None:
    settings = Settings(
        database_url=await new_url(),
        valkey_url=valkey_url,
        data_dir=str(tmp_path),
        secret_keys=("a-key-that-only-tests-ever-sign-with",),
        reads_per_minute=LIMIT,
        trusted_proxies=("127.0.0.1",),
    )
    path = f"/api/v1/images/{uuid4()}"
    first, second = signed_in(uuid4()), signed_in(uuid4())
    async with in_process(settings, People()) as client:
        for headers in ({**first, **a_client()} for _ in range(LIMIT)):
            assert (await client.get(path, headers=headers)).status_code == 404
        assert (await client.get(path, headers=first | a_client())).status_code == 429
        assert (await client.get(path, headers=second | a_client())).status_code == 404
        # Whoever does not say who they are is known by the address.
        assert (await client.get(path, headers=a_client())).status_code == 404


@contextlib.asynccontextmanager
async def behind(valkey_url: str, start_api: StartApi) -> AsyncIterator[tuple[Api, Proxy]]:
    async with (
        Proxy(valkey_url) as proxy,
        start_api(
            VALKEY_URL=proxy.url, UPLOADS_PER_MINUTE=LIMIT, HTTP_WORKERS=1, TRUSTED_PROXIES="127.0.0.1"
        ) as api,
    ):
        yield api, proxy


async def test_without_valkey_nothing_is_limited_and_the_limit_comes_back(
    start_api: StartApi, valkey_url: str
) -> None:
    async with behind(valkey_url, start_api) as (api, proxy):
        client = a_client()
        await exhaust(api, client)
        proxy.mode = Mode.HANG
        for _ in range(2):
            started = time.monotonic()
            answer = await post(api, client, b"no image")
            assert answer.status_code == 415
            assert "ratelimit" not in answer.headers
            assert time.monotonic() - started < 1.5
        proxy.mode = Mode.PASS
        proxy.cut_all()
        async with asyncio.timeout(10):
            while (await post(api, client)).status_code != 429:
                await asyncio.sleep(0.05)

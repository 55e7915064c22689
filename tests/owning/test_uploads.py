"""Uploads of those who are signed in, and of nobody where nobody may."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest

from chitram.accounts.domain.principal import Scope
from tests.support.accounts import Account, Headers, bearer
from tests.support.api import UPLOAD
from tests.support.connections import connection
from tests.support.owning import IMAGES, House, StartHouse, code_of
from tests.support.photos import jpeg

UPLOADS = "/api/v1/uploads"
WAYS = ["form", "bytes", "batch", "direct"]


async def send(house: House, way: str, headers: Headers, visibility: str = "private") -> httpx.Response:
    """Upload in one of the ways there are, as far as it goes."""
    client, options = house.client, {"visibility": visibility}
    if way == "form":
        return await client.post(UPLOAD, files={"file": ("a.jpg", jpeg())}, data=options, headers=headers)
    if way == "bytes":
        return await client.post(IMAGES, content=jpeg(), params=options, headers=headers)
    if way == "batch":
        return await client.post(
            f"{IMAGES}/batch", files=[("files", ("a.jpg", jpeg()))], data=options, headers=headers
        )
    begun = await client.post(UPLOADS, json=options, headers=headers)
    if begun.status_code != 201:
        return begun
    assert (await client.put(begun.json()["url"], content=jpeg())).status_code == 204
    return await client.post(f"{UPLOADS}/{begun.json()['upload_id']}/complete", headers=headers)


def made(way: str, answer: httpx.Response) -> dict[str, Any]:
    """The image that an upload made."""
    body: dict[str, Any] = answer.json()["results"][0] if way == "batch" else answer.json()
    assert answer.status_code == (200 if way == "batch" else 201), answer.text
    return body


@pytest.mark.parametrize("way", WAYS)
async def test_an_image_belongs_to_whoever_uploads_it(house: House, way: str) -> None:
    key = await house.accounts.key(house.owner, Scope.WRITE)
    for headers in (house.owner.headers, key):
        body = made(way, await send(house, way, headers))
        assert body["owner_id"] == str(house.owner.id)
        assert (body["visibility"], body["delete_token"]) == ("private", None)
        assert (await house.ask("GET", f"/{body['id']}", house.owner)).status_code == 200
        assert (await house.ask("DELETE", f"/{body['id']}", house.owner)).status_code == 204


@pytest.mark.parametrize("way", WAYS)
async def test_credentials_have_to_be_good_and_for_writing(house: House, way: str) -> None:
    before = await house.api.kept()
    reader = await house.accounts.key(house.owner, Scope.READ, Scope.ADMIN)
    answer = await send(house, way, reader)
    assert code_of(answer) == (403, "FORBIDDEN")
    assert answer.json()["error"]["details"] == {"scope": "images:write"}
    late = bearer(house.owner.id, house.owner.session_id, life=timedelta(hours=-1))
    for headers, code in ((late, "TOKEN_EXPIRED"), ({"authorization": "Bearer x"}, "INVALID_TOKEN")):
        assert code_of(await send(house, way, headers, "public")) == (401, code)
    assert await house.api.kept() == before


@pytest.mark.parametrize("way", WAYS)
async def test_nobody_has_nothing_private(house: House, way: str) -> None:
    answer = await send(house, way, {})
    if way == "batch":
        assert answer.json()["results"][0]["error"]["code"] == "INVALID_REQUEST"
    else:
        assert code_of(answer) == (400, "INVALID_REQUEST")


async def test_an_upload_that_somebody_began_is_completed_by_their_writing_credentials(
    house: House,
) -> None:
    begun = (await house.client.post(UPLOADS, headers=house.owner.headers)).json()
    assert begun["upload_token"] is None
    await house.client.put(begun["url"], content=jpeg())
    complete = f"{UPLOADS}/{begun['upload_id']}/complete"
    for who in ({}, house.stranger.headers, house.admin.headers):
        assert code_of(await house.client.post(complete, headers=who)) == (404, "UPLOAD_NOT_FOUND")
    reader = await house.accounts.key(house.owner, Scope.READ)
    assert code_of(await house.client.post(complete, headers=reader)) == (403, "FORBIDDEN")
    writer = await house.accounts.key(house.owner, Scope.WRITE)
    assert (await house.client.post(complete, headers=writer)).status_code == 201


@pytest.fixture(scope="module")
async def closed(start_house: StartHouse) -> AsyncIterator[House]:
    async with start_house(ANONYMOUS_UPLOADS="false") as started:
        yield started


@pytest.mark.parametrize("way", WAYS)
async def test_where_nobody_may_upload_the_anonymous_are_refused(closed: House, way: str) -> None:
    answer = await send(closed, way, {}, "public")
    assert code_of(answer) == (401, "NOT_AUTHENTICATED")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert made(way, await send(closed, way, closed.owner.headers))["owner_id"] == str(closed.owner.id)


@pytest.mark.parametrize("path", [UPLOAD, IMAGES, f"{IMAGES}/batch", UPLOADS])
@pytest.mark.parametrize("who", ["nobody", "a reader"])
async def test_the_refusal_comes_before_any_byte_of_the_body(closed: House, path: str, who: str) -> None:
    headers = await closed.accounts.key(closed.owner, Scope.READ) if who == "a reader" else {}
    lines = [f"POST {path} HTTP/1.1", "host: chitram", "content-length: 1000000"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    async with connection(*closed.api.host) as (reader, writer), asyncio.timeout(10):
        writer.write("\r\n".join([*lines, "", ""]).encode())
        status = (await reader.readline()).split()[1]
    assert status == (b"403" if headers else b"401")


async def test_an_upload_that_was_begun_by_nobody_may_be_completed(
    house: House, closed: House, start_house: StartHouse
) -> None:
    """As it is after the setting was changed, with the upload still open."""
    begun = (await house.client.post(UPLOADS)).json()
    row = await house.accounts.connection.fetchrow(
        "SELECT * FROM uploads WHERE id = $1::uuid", begun["upload_id"]
    )
    await closed.accounts.connection.copy_records_to_table(
        "uploads", columns=list(row.keys()), records=[tuple(row.values())]
    )
    assert (await closed.client.put(begun["url"], content=jpeg())).status_code == 204
    completed = await closed.client.post(
        f"{UPLOADS}/{begun['upload_id']}/complete", headers={"x-upload-token": begun["upload_token"]}
    )
    assert completed.status_code == 201
    assert completed.json()["owner_id"] is None


async def test_a_revoked_session_uploads_nothing(house: House) -> None:
    account: Account = await house.accounts.somebody()
    assert (await house.upload(account)).status_code == 201
    other = await house.accounts.another_session(account)
    await house.accounts.people.revoke(other.session_id)
    assert code_of(await house.upload(other)) == (401, "INVALID_TOKEN")

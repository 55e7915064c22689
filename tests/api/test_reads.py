"""Reads of images are answered ahead of the framework, and no different from what it would answer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from chitram.delivery.domain.links import SignedLinks
from chitram.platform.signing import Signer
from tests.api.conftest import StartApi
from tests.support.accounts import Account, Accounts
from tests.support.api import SECRET_KEY, Api
from tests.support.photos import jpeg

# Of every answer its own.
_OWN = {"x-request-id", "x-cache", "date"}


@pytest.fixture(scope="module")
async def image_id(api: Api) -> str:
    uploaded: str = (await api.uploaded(jpeg()))["id"]
    return uploaded


def told(answer: httpx.Response) -> tuple[int, dict[str, str], bytes]:
    fields = {name: value for name, value in answer.headers.items() if name not in _OWN}
    return answer.status_code, fields, answer.content


@pytest.mark.parametrize(
    ("resource", "headers", "status"),
    [
        ("", {}, 200),
        ("", {"authorization": "Bearer nonsense"}, 401),
        ("", {"x-api-key": "nonsense"}, 401),
        ("?size=odd", {}, 200),
        ("/file", {}, 200),
        ("/file", {"range": "bytes=0-9"}, 206),
        ("/file", {"if-none-match": "*"}, 304),
        ("/file", {"if-match": '"other"'}, 412),
        ("/file", {"range": "bytes=99999999-"}, 416),
        ("/thumbnail?size=odd", {}, 400),
        ("/thumbnail?size=odd&size=small", {}, 404),
        ("/thumbnail", {}, 404),
        ("/optimised", {"accept": "image/webp"}, 404),
    ],
)
async def test_an_address_in_an_unusual_form_is_answered_alike(
    api: Api, image_id: str, resource: str, headers: dict[str, str], status: int
) -> None:
    usual = await api.client.get(f"/api/v1/images/{image_id}{resource}", headers=headers)
    unusual = await api.client.get(f"/api/v1//images/{image_id}{resource}", headers=headers)
    assert told(usual) == told(unusual)
    assert usual.status_code == status


@pytest.mark.parametrize("resource", ["", "/file"])
async def test_head_is_told_what_get_is(api: Api, image_id: str, resource: str) -> None:
    path = f"/api/v1/images/{image_id}{resource}"
    got, asked = await api.client.get(path), await api.client.head(path)
    assert told(asked) == (*told(got)[:2], b"")


async def test_an_id_of_no_image_is_not_found_whatever_it_looks_like(api: Api) -> None:
    for resource in ("", "/file", "/thumbnail", "/optimised"):
        for unknown in (uuid4(), "x", "%00", uuid4().hex):
            answer = await api.client.get(f"/api/v1/images/{unknown}{resource}")
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "IMAGE_NOT_FOUND")
            assert answer.headers["cache-control"] == "no-store"


async def test_what_is_no_read_goes_its_own_way(api: Api, image_id: str) -> None:
    path = f"/api/v1/images/{image_id}"
    refused = await api.client.put(path)
    assert refused.status_code == 405
    allowed = {method.strip() for method in refused.headers["allow"].split(",")}
    assert allowed == {"GET", "HEAD", "PATCH", "DELETE", "OPTIONS"}
    assert (await api.client.get(f"{path}/links")).status_code == 405
    assert (await api.client.get(f"{path}/other")).json()["error"]["code"] == "NOT_FOUND"


async def test_a_host_that_is_none_is_refused(api: Api, image_id: str) -> None:
    answer: Any = await api.client.get(f"/api/v1/images/{image_id}", headers={"host": "a b"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "INVALID_REQUEST")


def both(image_id: str, resource: str = "") -> tuple[str, str]:
    """An address in its usual form, and in one that the framework answers."""
    return f"/api/v1/images/{image_id}{resource}", f"/api/v1//images/{image_id}{resource}"


async def private_image(api: Api, owner: Account) -> str:
    uploaded = await api.client.post("/api/v1/images", content=jpeg(), headers=owner.headers)
    image_id: str = uploaded.json()["id"]
    address = f"/api/v1/images/{image_id}"
    hidden = await api.client.patch(address, json={"visibility": "private"}, headers=owner.headers)
    assert hidden.status_code == 200
    return image_id


async def test_a_private_image_is_seen_by_the_same_people_and_by_administrators_on_the_record(
    api: Api,
) -> None:
    async with Accounts.of(api.database_url) as accounts:
        owner, stranger = await accounts.somebody(), await accounts.somebody()
        admin = await accounts.somebody(is_admin=True)
        image_id = await private_image(api, owner)
        for status, headers in (
            (200, owner.headers),
            (404, stranger.headers),
            (404, {}),
            (200, admin.headers),
        ):
            for resource in ("", "/file"):
                usual, unusual = [
                    await api.client.get(address, headers=headers) for address in both(image_id, resource)
                ]
                assert told(usual) == told(unusual)
                assert usual.status_code == status
        subject = f"image:{image_id}"
        assert await accounts.audited(subject) == [(admin.id, "image.read")] * 4


@pytest.mark.parametrize(("seconds", "status"), [(60, 200), (-60, 404)])
async def test_a_signed_link_opens_as_much_in_an_unusual_form(api: Api, seconds: int, status: int) -> None:
    async with Accounts.of(api.database_url) as accounts:
        image_id = await private_image(api, await accounts.somebody())
    until = datetime.now(UTC) + timedelta(seconds=seconds)
    links = SignedLinks(Signer((SECRET_KEY,), "image link"), "")
    query = links.make(UUID(image_id), "", until)
    usual, unusual = [await api.client.get(f"{address}{query}") for address in both(image_id, "/file")]
    assert told(usual) == told(unusual)
    assert usual.status_code == status
    for address in both(image_id):
        assert (await api.client.get(f"{address}{query}")).status_code == 404


@pytest.mark.only_over("local", reason="limits do not depend on where images are kept")
async def test_an_address_in_an_unusual_form_counts_and_tells_of_limits_alike(start_api: StartApi) -> None:
    async with start_api(READS_PER_MINUTE=4) as limited:
        addresses = both((await limited.uploaded(jpeg()))["id"])
        answers = [await limited.client.get(address) for address in addresses * 3]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 200, 429, 429]
    left = [answer.headers["ratelimit"].split(";")[1] for answer in answers]
    assert left == ["r=3", "r=2", "r=1", "r=0", "r=0", "r=0"]
    assert {answer.headers["ratelimit-policy"] for answer in answers} == {'"reads";q=4;w=60'}

"""Reads of images are answered ahead of the framework, and no different from what it would answer."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.support.api import Api
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

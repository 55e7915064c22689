"""Files in every mode of delivery: sent by the application, by nginx, by the store."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from urllib.parse import quote
from uuid import uuid4

import httpx
import pytest

from tests.support.images import add_image
from tests.support.photos import jpeg
from tests.support.served import (
    EPOCH,
    LATER,
    NAME,
    NOT_FOUND,
    Served,
    code_of,
    from_the_app,
    private_image,
    signed,
)


async def test_the_whole_file_comes_as_it_is_stored(served: Served) -> None:
    answer = await served.get()
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")
    assert hashlib.sha256(answer.content).hexdigest() == served.image["checksum"]
    assert answer.headers["accept-ranges"] == "bytes"


async def test_each_mode_sends_the_file_its_own_way(served: Served) -> None:
    answer = await served.api.client.get(served.url)
    assert answer.status_code == (307 if served.mode == "redirect" else 200)
    assert answer.headers.get("server", "").startswith("nginx") == (served.mode == "accel")


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("0-99", 0, 99),
        ("0-0", 0, 0),
        ("100-", 100, None),
        ("-50", -50, None),
        ("-99999999", 0, None),
        ("10-99999999", 10, None),
        ("0-", 0, None),
        ("100000-299999", 100_000, 299_999),
        ("00000000010-0000000020", 10, 20),
    ],
)
async def test_one_range_is_a_part(served: Served, asked: str, first: int, last: int | None) -> None:
    answer = await served.get(range=f"bytes={asked}")
    size = len(served.content)
    first, last = first % size, size - 1 if last is None else last
    assert answer.status_code == 206
    assert answer.content == served.content[first : last + 1]
    assert answer.headers["content-range"] == f"bytes {first}-{last}/{size}"
    assert answer.headers["content-type"] == "image/jpeg"


@pytest.mark.parametrize("asked", ["bytes=0-9,100-109", "bytes=0-9, -5"])
async def test_several_ranges_are_a_multipart(served: Served, asked: str) -> None:
    answer = await served.get(range=asked)
    assert answer.status_code == 206
    assert answer.headers["content-type"].startswith("multipart/byteranges; boundary=")
    assert answer.content.count(b"content-range: bytes ") == 2
    assert served.content[:10] in answer.content
    assert int(answer.headers["content-length"]) == len(answer.content)


@pytest.mark.parametrize("asked", ["bytes=0-9,5-19", "bytes=0-9,10-19", "bytes=,0-19", "bytes= 0-19"])
async def test_ranges_that_are_one_in_the_end_are_a_part(served: Served, asked: str) -> None:
    answer = await served.get(range=asked)
    assert (answer.status_code, answer.content) == (206, served.content[:20])


@pytest.mark.parametrize("asked", ["bytes=99999999-", "bytes=-0", "bytes=99999999-,-0"])
@pytest.mark.parametrize("conditions", [{}, {"if_none_match": '"other"'}], ids=["plain", "conditional"])
async def test_a_range_outside_is_refused_with_the_length(
    served: Served, asked: str, conditions: dict[str, str]
) -> None:
    answer = await served.get(range=asked, **conditions)
    assert code_of(answer) == (416, "RANGE_NOT_SATISFIABLE")
    assert answer.headers["content-range"] == f"bytes */{len(served.content)}"


@pytest.mark.parametrize(
    "asked",
    [
        *("lines=1-2", "bytes=", "bytes=-", "bytes=a-b", "bytes=9-1", "bytes 0-9", "bytes=0x1-9"),
        *("bytes=0-9;", "bytes=0-9-10", "0-9", "bytes=" + "0-1," * 40 + "0-1", "bytes=--9"),
    ],
)
async def test_a_nonsensical_range_is_ignored(served: Served, asked: str) -> None:
    answer = await served.get(range=asked)
    assert (answer.status_code, len(answer.content)) == (200, len(served.content))


async def test_if_range_lets_a_range_count_for_this_version_alone(served: Served) -> None:
    modified = (await served.get(method="HEAD")).headers["last-modified"]
    for validator, status in (
        (served.etag, 206),
        (modified, 206),
        ('"other"', 200),
        (f"W/{served.etag}", 200),
        (EPOCH, 200),
        (LATER, 200),
        ("nonsense", 200),
    ):
        answer = await served.get(range="bytes=0-9", if_range=validator)
        expected = served.content[:10] if status == 206 else served.content
        assert (answer.status_code, answer.content) == (status, expected), validator
    assert code_of(await served.get(range="bytes=99999999-", if_range=served.etag))[0] == 416


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_fresh_copy_is_not_sent_again(served: Served, method: str) -> None:
    modified = (await served.get(method="HEAD")).headers["last-modified"]
    for condition in (
        {"if_none_match": served.etag},
        {"if_none_match": f'"other", W/{served.etag}'},
        {"if_none_match": "*"},
        {"if_modified_since": modified},
        {"if_modified_since": LATER, "range": "bytes=0-9"},
        {"if_none_match": served.etag, "if_modified_since": EPOCH},
    ):
        answer = from_the_app(await served.get(method=method, **condition))
        assert (answer.status_code, answer.content) == (304, b""), condition
        assert answer.headers["etag"] == served.etag
        assert "content-type" not in answer.headers


async def test_a_stale_copy_is_sent_again(served: Served) -> None:
    for condition in (
        {"if_none_match": '"other"'},
        {"if_none_match": "nonsense"},
        {"if_none_match": '"other"', "if_modified_since": LATER},
        {"if_modified_since": EPOCH},
        {"if_modified_since": "nonsense"},
        {"if_match": served.etag},
        {"if_match": "*"},
        {"if_unmodified_since": LATER},
        {"if_match": served.etag, "if_unmodified_since": EPOCH},
    ):
        answer = await served.get(**condition)
        assert (answer.status_code, answer.content == served.content) == (200, True), condition
        part = await served.get(**condition, range="bytes=5-9")
        assert (part.status_code, part.content) == (206, served.content[5:10]), condition


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_condition_that_fails_is_412(served: Served, method: str) -> None:
    for condition in (
        {"if_match": '"other"'},
        {"if_match": f"W/{served.etag}"},
        {"if_unmodified_since": EPOCH},
    ):
        answer = from_the_app(await served.get(method=method, **condition))
        assert answer.status_code == 412, condition
        if method == "GET":
            assert code_of(answer) == (412, "PRECONDITION_FAILED")


async def test_head_says_the_same_in_every_mode(served: Served) -> None:
    for headers in ({}, {"range": "bytes=0-9"}, {"range": "bytes=99999999-"}):
        answer = from_the_app(await served.get(method="HEAD", **headers))
        assert (answer.status_code, answer.content) == (200, b"")
        assert described(answer) == {**EXPECTED, "etag": served.etag}
        assert int(answer.headers["content-length"]) == len(served.content)


EXPECTED = {
    "content-type": "image/jpeg",
    "content-disposition": (
        "inline; filename=\"__ ______; _a_ 'b'.jpg\"; filename*=UTF-8''" + quote(NAME, safe="!#$&+-.^_`|~")
    ),
    "accept-ranges": "bytes",
    "cache-control": "public, max-age=31536000, immutable",
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
    "cross-origin-resource-policy": "cross-origin",
}


def described(answer: httpx.Response) -> dict[str, str]:
    """What an answer says of the file; none of it twice."""
    names = [*EXPECTED, "etag"]
    assert {name: len(answer.headers.get_list(name)) for name in names} == dict.fromkeys(names, 1)
    return {name: answer.headers[name] for name in names}


@pytest.mark.parametrize("headers", [{}, {"range": "bytes=0-9"}], ids=["whole", "part"])
async def test_a_file_comes_with_every_header(served: Served, headers: dict[str, str]) -> None:
    answer = await served.get(**headers, x_request_id="my-own-id")
    if served.mode == "redirect":
        # The store says what it knows: blobs are shared by images of many names.
        assert answer.headers["content-type"] == "image/jpeg"
        assert answer.headers["cache-control"] == "private, no-store"
        return
    head = await served.get(method="HEAD")
    if (served.mode, answer.status_code) == ("accel", 206):
        # A part says by itself that there are parts; nginx leaves the field out then.
        answer.headers["accept-ranges"] = "bytes"
    assert described(answer) == {**EXPECTED, "etag": served.etag}
    assert answer.headers.get_list("last-modified") == head.headers.get_list("last-modified")
    assert answer.headers.get_list("x-request-id") == ["my-own-id"]
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert "x-accel-redirect" not in answer.headers


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"range": "bytes=0-9"},
        {"range": "bytes=99999999-"},
        {"if_none_match": "*"},
        {"if_match": '"other"'},
        {"if_modified_since": LATER},
    ],
    ids=["whole", "part", "outside", "none-match", "match", "since"],
)
async def test_a_private_image_is_not_there_without_a_link(served: Served, headers: dict[str, str]) -> None:
    image_id = await private_image(served)
    for url in (f"/api/v1/images/{image_id}/file", signed(image_id, -1), f"{signed(image_id, 60)}x"):
        answer = await served.get(url, **headers)
        assert code_of(answer) == NOT_FOUND
        assert answer.headers["cache-control"] == "no-store"
        assert from_the_app(await served.get(url, "HEAD", **headers)).status_code == 404


async def test_a_private_image_is_there_with_a_link_and_kept_by_nobody(served: Served) -> None:
    link = signed(await private_image(served), 60)
    whole, part = await served.get(link), await served.get(link, range="bytes=0-9")
    assert (whole.status_code, whole.content) == (200, served.content)
    assert (part.status_code, part.content) == (206, served.content[:10])
    head, known = await served.get(link, "HEAD"), await served.get(link, if_none_match=served.etag)
    assert (head.status_code, from_the_app(known).status_code) == (200, 304)
    assert {answer.headers["cache-control"] for answer in (whole, part, head, known)} == {"private, no-store"}


async def test_a_deleted_image_is_gone(served: Served) -> None:
    uploaded = await served.api.uploaded(jpeg(80, 60), "gone.jpg")
    assert (await served.get(uploaded["url"])).status_code == 200
    token = {"x-delete-token": uploaded["delete_token"]}
    path = f"/api/v1/images/{uploaded['id']}"
    assert (await served.api.client.delete(path, headers=token)).status_code == 204
    for method in ("GET", "HEAD"):
        assert from_the_app(await served.get(uploaded["url"], method)).status_code == 404
    assert code_of(await served.get(uploaded["url"], if_none_match="*")) == NOT_FOUND


async def test_an_image_whose_time_is_up_is_gone(served: Served) -> None:
    expired = await add_image(
        served.api.database_url,
        served.image["id"],
        visibility="public",
        expires_at=datetime.now(UTC) - timedelta(seconds=1),
    )
    for url in (f"/api/v1/images/{expired}/file", signed(expired, 60)):
        assert code_of(await served.get(url)) == NOT_FOUND


async def test_what_a_client_says_of_the_sending_changes_nothing(served: Served) -> None:
    internal = f"/_chitram/local/blobs/00/{served.image['id']}"
    answer = await served.get(f"/api/v1/images/{uuid4()}/file", x_accel_redirect=internal)
    assert code_of(answer) == NOT_FOUND
    assert (await served.get(x_accel_redirect=internal)).content == served.content


async def location(served: Served, url: str) -> httpx.URL:
    """Where a redirect leads to, which nobody may keep."""
    answer = await served.api.client.get(url)
    assert (answer.status_code, answer.headers["cache-control"]) == (307, "no-store")
    assert (answer.headers["content-length"], answer.content) == ("0", b"")
    assert "etag" not in answer.headers
    return httpx.URL(answer.headers["location"])


@pytest.mark.parametrize("served", ["redirect"], indirect=True)
async def test_the_address_at_the_store_works_for_a_minute_at_most(served: Served) -> None:
    assert (await location(served, served.url)).params["X-Amz-Expires"] == "60"


@pytest.mark.parametrize("served", ["redirect"], indirect=True)
async def test_the_address_at_the_store_works_no_longer_than_link_and_image(served: Served) -> None:
    end = datetime.now(UTC) + timedelta(seconds=20)
    expiring = await add_image(
        served.api.database_url, served.image["id"], visibility="public", expires_at=end
    )
    for url in (signed(await private_image(served), 20), f"/api/v1/images/{expiring}/file"):
        assert 15 <= int((await location(served, url)).params["X-Amz-Expires"]) <= 20


@pytest.mark.parametrize("served", ["redirect"], indirect=True)
async def test_a_condition_that_holds_is_not_judged_again_by_the_store(served: Served) -> None:
    for condition in ({"if-match": served.etag}, {"if-none-match": '"other"'}, {"if-range": served.etag}):
        answer = await served.api.client.get(served.url, headers=condition)
        assert answer.status_code == 200

"""Thumbnails and optimised renditions in every mode of delivery."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import httpx
import pytest

from chitram.images.public import RenditionKind
from tests.support.api import log_of
from tests.support.renditions import Put, mark_processed, put_rendition
from tests.support.served import (
    EPOCH,
    LATER,
    NOT_FOUND,
    Served,
    code_of,
    from_the_app,
    private_image,
    signed,
)

SMALL, MEDIUM, LARGE = RenditionKind.SMALL, RenditionKind.MEDIUM, RenditionKind.LARGE
OPTIMISED, WEBP = RenditionKind.OPTIMISED, RenditionKind.OPTIMISED_WEBP
DAY = "public, max-age=86400"
TAKES_WEBP = "image/avif,image/webp,image/*,*/*;q=0.8"
RESOURCES = ["thumbnail?size=small", "thumbnail", "thumbnail?size=large", "optimised"]
INERT = {
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
    "cross-origin-resource-policy": "cross-origin",
}


def tag(answer: httpx.Response) -> str:
    return str(answer.headers["etag"])


def sent_as(answer: httpx.Response, put: Put) -> bool:
    """Whether all of a rendition came."""
    return (answer.status_code, answer.headers["content-type"], answer.content) == (
        200,
        put.media_type,
        put.content,
    )


@pytest.mark.parametrize("kind", [SMALL, MEDIUM, LARGE])
async def test_each_thumbnail_comes_as_it_was_made(served: Served, kind: RenditionKind) -> None:
    assert sent_as(await served.get(served.at(f"thumbnail?size={kind}")), served.renditions[kind])


async def test_without_a_size_it_is_the_medium_one(served: Served) -> None:
    assert sent_as(await served.get(served.at("thumbnail")), served.renditions[MEDIUM])


@pytest.mark.parametrize("size", ["huge", "", "SMALL", "optimised", "optimised_webp", "150", "%00", "small "])
async def test_another_size_is_refused_with_those_there_are(served: Served, size: str) -> None:
    answer = await served.get(served.at(f"thumbnail?size={size}"))
    assert code_of(answer) == (400, "INVALID_REQUEST")
    assert answer.json()["error"]["details"] == {"field": "size", "allowed": ["small", "medium", "large"]}


@pytest.mark.parametrize("resource", RESOURCES)
async def test_a_rendition_comes_with_every_header(served: Served, resource: str) -> None:
    head = from_the_app(await served.get(served.at(resource), "HEAD", x_request_id="my-own-id"))
    put = served.renditions[
        RenditionKind(resource.partition("=")[2] or resource.replace("thumbnail", MEDIUM))
    ]
    assert (head.status_code, head.content) == (200, b"")
    expected = {
        **INERT,
        "etag": put.etag,
        "content-type": put.media_type,
        "content-length": str(len(put.content)),
        "cache-control": DAY,
        "accept-ranges": "bytes",
        "x-request-id": "my-own-id",
    }
    assert {name: head.headers.get_list(name) for name in expected} == {
        name: [value] for name, value in expected.items()
    }
    assert head.headers.get("vary") == ("Accept" if resource == "optimised" else None)
    if served.mode != "redirect":
        answer = await served.get(served.at(resource), x_request_id="my-own-id")
        assert {name: answer.headers.get_list(name) for name in expected} == {
            name: [value] for name, value in expected.items()
        }
        for name in ("content-disposition", "last-modified", "vary"):
            assert answer.headers.get(name) == head.headers.get(name)


async def test_each_mode_sends_renditions_its_own_way(served: Served) -> None:
    for resource in RESOURCES:
        answer = await served.api.client.get(served.at(resource))
        assert answer.status_code == (307 if served.mode == "redirect" else 200)
        assert answer.headers.get("server", "").startswith("nginx") == (served.mode == "accel")
        if served.mode == "redirect":
            assert "/renditions/" in answer.headers["location"]


async def test_a_rendition_is_named_after_what_it_is(served: Served) -> None:
    for resource, ending in (
        *(("thumbnail?size=small", "webp"), ("thumbnail", "jpg"), ("thumbnail?size=large", "png")),
        ("optimised", "jpg"),
    ):
        head = await served.get(served.at(resource), "HEAD")
        assert head.headers["content-disposition"].startswith(
            f"inline; filename=\"__ ______; _a_ 'b'.{ending}\""
        )


async def test_a_part_of_a_rendition_may_be_had_too(served: Served) -> None:
    answer = await served.get(served.at("thumbnail"), range="bytes=10-19")
    assert (answer.status_code, answer.content) == (206, served.renditions[MEDIUM].content[10:20])
    outside = await served.get(served.at("thumbnail"), range="bytes=99999999-")
    assert code_of(outside) == (416, "RANGE_NOT_SATISFIABLE")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_fresh_copy_of_a_rendition_is_not_sent_again(served: Served, method: str) -> None:
    for resource in RESOURCES:
        url = served.at(resource)
        head = await served.get(url, "HEAD")
        for condition in (
            {"if_none_match": tag(head)},
            {"if_modified_since": head.headers["last-modified"]},
            {"if_modified_since": LATER},
        ):
            answer = from_the_app(await served.get(url, method, **condition))
            assert (answer.status_code, answer.content) == (304, b""), (url, condition)
            for name in ("etag", "last-modified", "cache-control", "vary"):
                assert answer.headers.get(name) == head.headers.get(name)


async def test_a_stale_copy_of_a_rendition_is_sent_again(served: Served) -> None:
    for condition in ({"if_none_match": served.renditions[SMALL].etag}, {"if_modified_since": EPOCH}):
        assert sent_as(await served.get(served.at("thumbnail"), **condition), served.renditions[MEDIUM])
    assert code_of(await served.get(served.at("thumbnail"), if_match=served.etag))[0] == 412


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (TAKES_WEBP, WEBP),
        ("image/webp", WEBP),
        ("image/png;q=0.1, IMAGE/WebP;Q=0.001", WEBP),
        ("*/*", OPTIMISED),
        ("image/*", OPTIMISED),
        ("image/webp;q=0", OPTIMISED),
        ("image/jpeg", OPTIMISED),
        ("image/webp2", OPTIMISED),
        ("", OPTIMISED),
    ],
)
async def test_webp_goes_to_those_who_name_it(served: Served, accept: str, kind: RenditionKind) -> None:
    assert sent_as(await served.get(served.at("optimised"), accept=accept), served.renditions[kind])


async def test_a_condition_is_judged_by_what_would_be_sent(served: Served) -> None:
    url = served.at("optimised")
    jpeg_tag, webp_tag = served.renditions[OPTIMISED].etag, served.renditions[WEBP].etag
    for accept, own, other in ((TAKES_WEBP, webp_tag, jpeg_tag), ("*/*", jpeg_tag, webp_tag)):
        fresh = from_the_app(await served.get(url, accept=accept, if_none_match=own))
        assert (fresh.status_code, tag(fresh), fresh.headers["vary"]) == (304, own, "Accept")
        stale = await served.get(url, accept=accept, if_none_match=other)
        assert stale.status_code == 200
        assert tag(await served.get(url, "HEAD", accept=accept, if_none_match=other)) == own
        both = await served.get(url, accept=accept, if_none_match=f"{jpeg_tag}, {webp_tag}")
        assert (both.status_code, tag(both)) == (304, own)


async def test_webp_alone_goes_to_those_who_name_it_and_the_file_to_others(served: Served) -> None:
    image_id = await served.uploaded(81, WEBP, optimised=True)
    url, file = served.at("optimised", image_id), await served.get(served.at("file", image_id))
    for accept, content_type in ((TAKES_WEBP, "image/webp"), ("*/*", "image/jpeg")):
        answer, head = await served.get(url, accept=accept), await served.get(url, "HEAD", accept=accept)
        assert answer.headers["content-type"] == content_type
        assert (head.headers["vary"], head.headers["cache-control"]) == ("Accept", DAY)
        assert (answer.content == file.content) == (content_type == "image/jpeg")


async def test_what_cannot_be_told_in_fewer_bytes_is_sent_as_it_is(served: Served) -> None:
    image_id = await served.uploaded(82, optimised=True)
    url, file = served.at("optimised", image_id), await served.get(served.at("file", image_id), "HEAD")
    for accept in (TAKES_WEBP, "*/*"):
        answer, head = await served.get(url, accept=accept), await served.get(url, "HEAD", accept=accept)
        assert answer.content == (await served.get(served.at("file", image_id))).content
        for name in ("etag", "last-modified", "content-disposition", "content-length"):
            assert head.headers[name] == file.headers[name]
        assert (head.headers["vary"], head.headers["cache-control"]) == ("Accept", DAY)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_what_is_not_made_yet_is_not_there_and_worth_asking_for_again(
    served: Served, method: str
) -> None:
    image_id = await served.uploaded(83)
    for resource, code in (("thumbnail", "THUMBNAIL_NOT_READY"), ("optimised", "RENDITION_NOT_READY")):
        answer = from_the_app(await served.get(served.at(resource, image_id), method, if_none_match="*"))
        assert (answer.status_code, answer.headers["cache-control"]) == (404, "no-store")
        assert 1 <= int(answer.headers["retry-after"]) <= 10
        if method == "GET":
            assert code_of(answer) == (404, code)
            assert answer.json()["error"]["details"] == {"processing": "pending"}


async def test_thumbnails_do_not_wait_for_the_optimised_rendition(served: Served) -> None:
    image_id = await served.uploaded(84, SMALL, MEDIUM, LARGE)
    for resource in RESOURCES[:3]:
        assert (await served.get(served.at(resource, image_id))).status_code == 200
    assert code_of(await served.get(served.at("optimised", image_id))) == (404, "RENDITION_NOT_READY")


async def test_what_could_not_be_made_is_not_worth_asking_for_again(served: Served) -> None:
    image_id = await served.uploaded(85)
    await mark_processed(served.api.database_url, image_id, "failed", optimised=False)
    answer = await served.get(served.at("thumbnail", image_id))
    assert code_of(answer) == (404, "THUMBNAIL_NOT_READY")
    assert "retry-after" not in answer.headers
    assert answer.json()["error"] == {
        "code": "THUMBNAIL_NOT_READY",
        "message": "No thumbnail could be made of this image.",
        "details": {"processing": "failed"},
    }
    file = await served.get(served.at("file", image_id))
    assert (await served.get(served.at("optimised", image_id))).content == file.content


async def test_the_metadata_say_what_there_is(served: Served) -> None:
    body = (await served.get(served.at("").removesuffix("/"))).json()
    assert (body["processing"], body["thumbnail_ready"]) == ("ready", True)
    assert body["thumbnail_url"] == served.at("thumbnail")
    assert list(body["thumbnails"]) == ["small", "medium", "large"]
    for kind, thumbnail in body["thumbnails"].items():
        put = served.renditions[RenditionKind(kind)]
        assert thumbnail == {
            "url": served.at(f"thumbnail?size={kind}"),
            "width": 150,
            "height": 110,
            "file_size": len(put.content),
        }
        assert sent_as(await served.get(thumbnail["url"]), put)


@pytest.mark.parametrize("headers", [{}, {"if_none_match": "*"}, {"range": "bytes=0-9"}], ids=str)
async def test_renditions_of_a_private_image_are_not_there(served: Served, headers: dict[str, str]) -> None:
    image_id = await private_image(served)
    link = signed(image_id, 60).partition("?")[2]
    assert (await served.get(f"{served.at('file', image_id)}?{link}")).status_code == 200
    for resource in RESOURCES:
        url = served.at(resource, image_id)
        # A link opens the file alone.
        for address in (url, f"{url}{'&' if '?' in url else '?'}{link}"):
            answer = await served.get(address, **headers)
            assert code_of(answer) == NOT_FOUND
            assert answer.headers["cache-control"] == "no-store"
            assert from_the_app(await served.get(address, "HEAD", **headers)).status_code == 404


async def test_an_image_that_expires_keeps_its_renditions_no_longer(served: Served) -> None:
    now = datetime.now(UTC)
    soon = await served.same(visibility="public", expires_at=now + timedelta(seconds=60))
    over = await served.same(visibility="public", expires_at=now - timedelta(seconds=1))
    for resource in RESOURCES:
        head = await served.get(served.at(resource, soon), "HEAD")
        seconds = int(head.headers["cache-control"].removeprefix("public, max-age="))
        assert 30 <= seconds <= 60
        assert code_of(await served.get(served.at(resource, over))) == NOT_FOUND


async def test_renditions_of_a_deleted_image_are_gone(served: Served) -> None:
    body = await served.api.uploaded((await served.get()).content, "gone.jpg")
    for resource in RESOURCES:
        assert (await served.get(served.at(resource, body["id"]))).status_code == 200
    token = {"x-delete-token": body["delete_token"]}
    path = served.at("", body["id"]).removesuffix("/")
    assert (await served.api.client.delete(path, headers=token)).status_code == 204
    for resource in RESOURCES:
        for method in ("GET", "HEAD"):
            answer = from_the_app(await served.get(served.at(resource, body["id"]), method))
            assert answer.status_code == 404
        assert code_of(await served.get(served.at(resource, body["id"]), if_none_match="*")) == NOT_FOUND


@pytest.mark.parametrize("served", ["app", "accel"], indirect=True)
async def test_a_rendition_that_was_made_again_is_found_though_the_old_one_is_remembered(
    served: Served,
) -> None:
    image_id = await served.uploaded(86, SMALL, optimised=True)
    url = served.at("thumbnail?size=small", image_id)
    old = await served.get(url)
    old_key = (await put_rendition(served.api.database_url, served.store, image_id, SMALL)).key
    new = await put_rendition(
        served.api.database_url, served.store, image_id, SMALL, "png", recipe=2, repeat=60
    )
    await served.store.delete(old_key)
    answer = await served.get(url)
    assert sent_as(answer, new)
    assert tag(answer) != tag(old)
    assert old_key not in log_of(served.api)


@pytest.mark.parametrize("served", ["app", "accel"], indirect=True)
async def test_a_rendition_that_the_store_has_lost_is_no_image_that_never_was(served: Served) -> None:
    image_id = await served.uploaded(87, SMALL, optimised=True)
    put = await put_rendition(served.api.database_url, served.store, image_id, SMALL)
    await served.store.delete(put.key)
    answer = await served.get(served.at("thumbnail?size=small", image_id))
    assert code_of(answer) == (503, "STORAGE_UNAVAILABLE")
    assert answer.headers["cache-control"] == "no-store"
    assert put.key in log_of(served.api)
    fresh = await served.get(served.at("thumbnail?size=small", image_id), if_none_match=put.etag)
    assert fresh.status_code == 304

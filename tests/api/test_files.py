"""Files over HTTP: conditions, ranges, HEAD, caching, privacy."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import socket
from typing import Any

import pytest
from PIL import Image

from tests.api.conftest import StartApi
from tests.support.api import Api
from tests.support.photos import (
    ORIENTATIONS,
    SECRET,
    camera_jpeg,
    jpeg,
    pixels,
    png_with_metadata,
    with_metadata,
)


@pytest.fixture(scope="session")
async def stored(api: Api) -> dict[str, Any]:
    return await api.uploaded(jpeg(1200, 900), "big.jpg")


async def test_the_bytes_are_those_of_the_checksum(api: Api, stored: dict[str, Any]) -> None:
    file = await api.client.get(stored["url"])
    assert hashlib.sha256(file.content).hexdigest() == stored["checksum"]
    assert file.headers["etag"] == f'"{stored["checksum"]}"'
    assert file.headers["accept-ranges"] == "bytes"
    assert file.headers["cache-control"] == "public, max-age=31536000, immutable"


async def test_head_says_what_get_would(api: Api, stored: dict[str, Any]) -> None:
    get, head = await api.client.get(stored["url"]), await api.client.head(stored["url"])
    assert head.status_code == 200
    assert head.content == b""
    ignored = {"date", "x-request-id"}
    assert {key: value for key, value in head.headers.items() if key not in ignored} == {
        key: value for key, value in get.headers.items() if key not in ignored
    }


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_fresh_copy_is_not_sent_again(api: Api, stored: dict[str, Any], method: str) -> None:
    file = await api.client.get(stored["url"])
    for condition in (
        {"if-none-match": file.headers["etag"]},
        {"if-none-match": f'"other", W/{file.headers["etag"]}'},
        {"if-modified-since": file.headers["last-modified"]},
    ):
        answer = await api.client.request(method, stored["url"], headers=condition)
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == file.headers["etag"]


async def test_a_condition_that_fails_is_412(api: Api, stored: dict[str, Any]) -> None:
    answer = await api.client.get(stored["url"], headers={"if-match": '"other"'})
    assert (answer.status_code, answer.json()["error"]["code"]) == (412, "PRECONDITION_FAILED")


async def test_conditions_in_several_lines_are_one_list(api: Api, stored: dict[str, Any]) -> None:
    etag = f'"{stored["checksum"]}"'
    for name, status in (("if-none-match", 304), ("if-match", 200)):
        lines = [(name, '"other"'), (name, etag)]
        assert (await api.client.get(stored["url"], headers=lines)).status_code == status


async def test_an_image_has_one_address(api: Api, stored: dict[str, Any]) -> None:
    odd = (f"urn:uuid:{stored['id']}", f"{{{stored['id']}}}", stored["id"].replace("-", ""))
    for address in odd:
        assert (await api.client.get(f"/api/v1/images/{address}/file")).status_code == 404
    assert (await api.client.get(f"/api/v1/images/{stored['id'].upper()}/file")).status_code == 200


async def test_one_range_is_a_part(api: Api, stored: dict[str, Any]) -> None:
    whole = (await api.client.get(stored["url"])).content
    for header, first, last in (
        ("bytes=0-99", 0, 99),
        ("bytes=100-", 100, len(whole) - 1),
        ("bytes=-50", len(whole) - 50, len(whole) - 1),
        ("bytes=10-99999999", 10, len(whole) - 1),
    ):
        answer = await api.client.get(stored["url"], headers={"range": header})
        assert answer.status_code == 206
        assert answer.content == whole[first : last + 1]
        assert answer.headers["content-range"] == f"bytes {first}-{last}/{len(whole)}"


async def test_several_ranges_are_a_multipart(api: Api, stored: dict[str, Any]) -> None:
    whole = (await api.client.get(stored["url"])).content
    answer = await api.client.get(stored["url"], headers={"range": "bytes=0-9,100-109"})
    assert answer.status_code == 206
    assert answer.headers["content-type"].startswith("multipart/byteranges; boundary=")
    assert whole[:10] in answer.content
    assert whole[100:110] in answer.content
    assert int(answer.headers["content-length"]) == len(answer.content)


async def test_a_range_outside_is_refused_with_the_length(api: Api, stored: dict[str, Any]) -> None:
    answer = await api.client.get(stored["url"], headers={"range": "bytes=99999999-"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (416, "RANGE_NOT_SATISFIABLE")
    assert answer.headers["content-range"] == f"bytes */{stored['file_size']}"


async def test_a_range_of_another_version_is_the_whole(api: Api, stored: dict[str, Any]) -> None:
    answer = await api.client.get(stored["url"], headers={"range": "bytes=0-9", "if-range": '"old"'})
    assert answer.status_code == 200
    assert len(answer.content) == stored["file_size"]


async def test_a_nonsensical_range_is_ignored(api: Api, stored: dict[str, Any]) -> None:
    answer = await api.client.get(stored["url"], headers={"range": "lines=1-2"})
    assert answer.status_code == 200


async def test_an_expiring_image_is_cached_no_longer_than_it_lives(api: Api) -> None:
    uploaded = await api.uploaded(jpeg(), expires_in="100")
    answer = await api.client.get(uploaded["url"])
    directives = answer.headers["cache-control"]
    assert "immutable" not in directives
    assert 0 < int(directives.partition("max-age=")[2]) <= 100


async def test_position_owner_and_comments_are_gone_but_not_a_pixel(api: Api) -> None:
    content = camera_jpeg()
    uploaded = await api.uploaded(content, "phone.jpg")
    assert (uploaded["width"], uploaded["height"]) == (3000, 4000)
    file = (await api.client.get(uploaded["url"])).content
    assert SECRET in content
    assert SECRET not in file
    with Image.open(io.BytesIO(file)) as opened:
        assert dict(opened.getexif()) == {0x0112: 6}
    assert (pixels(file) == pixels(content)).all()


@pytest.mark.parametrize("orientation", ORIENTATIONS)
async def test_every_orientation_is_kept_and_shown_in_the_size(api: Api, orientation: int) -> None:
    uploaded = await api.uploaded(with_metadata(jpeg(64, 48), orientation))
    sides = (48, 64) if orientation >= 5 else (64, 48)
    assert (uploaded["width"], uploaded["height"]) == sides
    file = (await api.client.get(uploaded["url"])).content
    with Image.open(io.BytesIO(file)) as opened:
        assert opened.getexif().get(0x0112, 1) == orientation


async def test_text_in_a_png_is_gone(api: Api) -> None:
    content = png_with_metadata()
    uploaded = await api.uploaded(content, "drawing.png")
    file = (await api.client.get(uploaded["url"])).content
    assert SECRET in content
    assert SECRET not in file
    assert (pixels(file) == pixels(content)).all()


async def test_keep_keeps_every_byte(keeping_api: Api) -> None:
    content = with_metadata(jpeg(), 6)
    uploaded = await keeping_api.uploaded(content)
    assert uploaded["checksum"] == hashlib.sha256(content).hexdigest()
    assert (await keeping_api.client.get(uploaded["url"])).content == content


async def test_a_client_that_takes_nothing_is_let_go_by_the_kernel(start_api: StartApi) -> None:
    async with start_api(HTTP_WORKERS=1, SEND_SECONDS=1, STALL_SECONDS=1) as api:
        uploaded = await api.uploaded(jpeg(3000, 2200, quality=98))
        assert uploaded["file_size"] > 2_000_000
        with contextlib.ExitStack() as clients:
            ports = set()
            for _ in range(4):
                client = clients.enter_context(socket.create_connection(api.host))
                client.sendall(f"GET {uploaded['url']} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                ports.add(client.getsockname()[1])
            async with asyncio.timeout(30):
                while connected(api) & ports != ports:
                    await asyncio.sleep(0.02)
                while connected(api) & ports:
                    await asyncio.sleep(0.05)


def connected(api: Api) -> set[int]:
    """Ports of the clients whose connection the server still holds."""
    server = api.processes()[-1]
    return {found.raddr[1] for found in server.net_connections("tcp") if len(found.raddr)}

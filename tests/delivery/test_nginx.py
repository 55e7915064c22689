"""The shipped configuration of nginx, before an upstream that says whatever a test wants."""

from __future__ import annotations

import asyncio
import shutil
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from chitram.platform.embedded.ports import ReservedPort
from chitram.platform.objects.local import LocalStore
from tests.delivery.conftest import StartApi
from tests.support.api import Api, make_data_dir
from tests.support.connections import connection
from tests.support.nginx import running_nginx
from tests.support.photos import jpeg

KEY = "blobs/0f/a-picture"
FOUND = "/_chitram/local/blobs/0f/a-picture"
RENDITIONS = "renditions/0f/01a2054e-64be-7058-a71b-6fa82e79db0f"
IMAGE_NOT_FOUND = (404, "IMAGE_NOT_FOUND")


@dataclass
class Upstream:
    """A server that answers every request with `header`, and remembers what it was asked."""

    header: str = ""
    asked: list[str] = field(default_factory=list)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(
            f"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n{self.header}\r\n".encode()
        )
        await writer.drain()
        writer.close()
        await writer.wait_closed()


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    path = make_data_dir()
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
async def store(place: Path) -> AsyncIterator[LocalStore]:
    store = LocalStore("local", place / "objects")
    await store.start()
    await store.put(KEY, [b"a picture"], 9)
    await store.put(f"{RENDITIONS}/optimised_webp-12", [b"a picture"], 9)
    yield store
    await store.aclose()


@pytest.fixture(scope="module")
async def upstream() -> AsyncIterator[tuple[Upstream, str]]:
    upstream = Upstream()
    async with await asyncio.start_server(upstream.answer, "127.0.0.1", 0) as server:
        yield upstream, f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.fixture(scope="module")
async def nginx(
    upstream: tuple[Upstream, str], store: LocalStore, place: Path
) -> AsyncIterator[httpx.AsyncClient]:
    with running_nginx(upstream[1], place / "objects", store.name) as url:
        async with httpx.AsyncClient(base_url=url) as client:
            yield client


@pytest.fixture
def app(upstream: tuple[Upstream, str]) -> Upstream:
    upstream[0].header = ""
    upstream[0].asked.clear()
    return upstream[0]


def code_of(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    assert len(answer.headers.get_list("x-request-id")) == 1
    assert answer.json()["error"].keys() == {"code", "message", "details"}
    return answer.status_code, answer.json()["error"]["code"]


@pytest.mark.parametrize("path", [FOUND, f"/_chitram/local/{RENDITIONS}/optimised_webp-12"])
async def test_sends_what_the_application_names(nginx: httpx.AsyncClient, app: Upstream, path: str) -> None:
    fields = {
        "content-type": "image/png",
        "content-disposition": 'inline; filename="a.png"',
        "cache-control": "private, no-store",
        "etag": '"ours"',
        "last-modified": "Wed, 04 Mar 2026 05:06:07 GMT",
        "vary": "accept",
        "ratelimit": '"reads";r=9;t=60',
        "ratelimit-policy": '"reads";q=10;w=60',
        "x-request-id": "the-one",
    }
    app.header = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    app.header += f"X-Accel-Redirect: {path}\r\n"
    answer = await nginx.get("/any")
    assert {name: answer.headers.get_list(name) for name in fields} == {
        name: [value] for name, value in fields.items()
    }
    assert answer.content == b"a picture"


@pytest.mark.parametrize(
    "path",
    [
        *(FOUND, "/_chitram/local/blobs/", "/_chitram/local/", "/_chitram/", "/_chitram/other/blobs/0f/x"),
        *(f"/_chitram/local/{RENDITIONS}/optimised_webp-12", f"/_chitram/local/{RENDITIONS}"),
        *(f"/any/..{FOUND}", f"/{FOUND}", FOUND.replace("_", "%5F"), FOUND.replace("blobs", "b%6Cobs")),
    ],
)
async def test_nobody_but_the_application_reaches_an_object(
    nginx: httpx.AsyncClient, app: Upstream, path: str
) -> None:
    address = f"http://{nginx.base_url.netloc.decode()}{path}"
    answer = await nginx.get(address, headers={"x-accel-redirect": FOUND})
    assert code_of(answer) == IMAGE_NOT_FOUND
    assert app.asked == []


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/_chitram/local/blobs/0f/b-picture", 404),
        ("/_chitram/local/blobs/0f/", 503),
        ("/_chitram/local/blobs/0f", 503),
        ("/_chitram/local/blobs/0f/a-link", 503),
        ("/_chitram/local/blobs/0f/closed", 503),
        ("/_chitram/local/quarantine/unchecked", 503),
        ("/_chitram/local/.unfinished/x", 503),
        ("/_chitram/other/blobs/0f/a-picture", 503),
        (f"/_chitram/local/{RENDITIONS}/small-1", 404),
        (f"/_chitram/local/{RENDITIONS}/", 503),
        (f"/_chitram/local/{RENDITIONS}", 503),
        ("/_chitram/local/renditions/0f/small-1", 503),
        (f"/_chitram/local/{RENDITIONS}/../optimised_webp-12", 404),
        ("/_chitram/local/blobs/../quarantine/unchecked", 404),
        ("/_chitram/local/blobs/%2e%2e/quarantine/unchecked", 404),
    ],
)
async def test_what_is_no_checked_object_is_not_sent(
    nginx: httpx.AsyncClient, app: Upstream, store: LocalStore, place: Path, path: str, status: int
) -> None:
    objects = place / "objects"
    await store.put("quarantine/unchecked", [b"unchecked"], 9)
    await store.put("blobs/0f/closed", [b"closed"], 6)
    (objects / "blobs/0f/closed").chmod(0)
    (objects / "blobs/0f/a-link").unlink(missing_ok=True)
    (objects / "blobs/0f/a-link").symlink_to(objects / "quarantine/unchecked")
    app.header = f"X-Accel-Redirect: {path}\r\nX-Request-ID: the-one\r\n"
    answer = await nginx.get("/any")
    code = "IMAGE_NOT_FOUND" if status == 404 else "STORAGE_UNAVAILABLE"
    assert code_of(answer) == (status, code)
    assert ("retry-after" in answer.headers) == (status == 503)
    if "%2e" not in path and ".." not in path:
        assert answer.headers["x-request-id"] == "the-one"


async def test_the_application_sees_the_address_of_the_peer_and_no_other(
    nginx: httpx.AsyncClient, app: Upstream
) -> None:
    spoofed = {
        "x-forwarded-for": "192.0.2.1",
        "forwarded": "for=192.0.2.1",
        "x-real-ip": "192.0.2.1",
        "x-forwarded-host": "192.0.2.1",
        "connection": "upgrade",
    }
    await nginx.get("/any?a=%20b", headers=spoofed)
    asked = app.asked[0]
    assert asked.startswith("GET /any?a=%20b HTTP/1.1\r\n")
    assert "\r\nX-Forwarded-For: 127.0.0.1\r\n" in asked
    assert "192.0.2.1" not in asked
    assert f"\r\nHost: {nginx.base_url.netloc.decode()}\r\n" in asked
    assert "upgrade" not in asked


async def test_what_nginx_itself_refuses_is_told_in_our_words(
    nginx: httpx.AsyncClient, app: Upstream
) -> None:
    size = str(256 * 1024 * 1024 + 1)
    head = f"POST /api/v1/images HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n"
    assert await said_to(nginx, head) == (413, "REQUEST_TOO_LARGE")
    assert await said_to(nginx, "GET / HTTP/1.1\r\nHost: a b\r\n\r\n") == (400, "INVALID_REQUEST")
    assert await said_to(nginx, "GET / HTTP/1.1\r\n\r\n") == (400, "INVALID_REQUEST")
    long = f"GET / HTTP/1.1\r\nHost: x\r\nCookie: {'a' * 40_000}\r\n\r\n"
    assert await said_to(nginx, long) == (400, "INVALID_REQUEST")
    assert app.asked == []


@pytest.mark.parametrize(
    ("head", "status", "code"),
    [
        *(
            (f"{line}\r\nHost: x\r\n\r\n", 400, "INVALID_REQUEST")
            for line in ("GET /%zz HTTP/1.1", "GET /%00 HTTP/1.1", "GET /../x HTTP/1.1", "get / HTTP/1.1")
        ),
        (f"GET /{'a' * 20_000} HTTP/1.1\r\nHost: x\r\n\r\n", 414, "INVALID_REQUEST"),
        ("GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505, "INVALID_REQUEST"),
        ("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501, "INVALID_REQUEST"),
        (
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            *(400, "INVALID_REQUEST"),
        ),
        ("TRACE / HTTP/1.1\r\nHost: x\r\n\r\n", 405, "METHOD_NOT_ALLOWED"),
    ],
    ids=[
        "escape",
        "zero",
        "above-root",
        "small-letters",
        "long",
        "version",
        "coding",
        "two-lengths",
        "trace",
    ],
)
async def test_what_nginx_cannot_take_is_the_clients_fault(
    nginx: httpx.AsyncClient, app: Upstream, head: str, status: int, code: str
) -> None:
    assert await said_to(nginx, head) == (status, code)
    assert app.asked == []


async def said_to(nginx: httpx.AsyncClient, head: str) -> tuple[int, str]:
    """Status and code of the answer to a request that no client of HTTP would write."""
    port = nginx.base_url.port
    assert port
    async with connection(nginx.base_url.host, port) as (reader, writer):
        writer.write(head.encode())
        status = int((await reader.readline()).split()[1])
        headers = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(headers.partition("content-length: ")[2].partition("\r\n")[0])
        answer = httpx.Response(status, content=await reader.readexactly(length))
    assert "x-request-id: " in headers
    assert "server: nginx\r\n" in headers
    return status, answer.json()["error"]["code"]


async def test_an_application_that_is_down_is_told_in_our_words(place: Path, store: LocalStore) -> None:
    nobody = ReservedPort()
    with running_nginx(f"127.0.0.1:{nobody.number}", place / "objects") as url:
        async with httpx.AsyncClient(base_url=url) as client:
            answer = await client.get("/any")
    assert code_of(answer) == (502, "UNAVAILABLE")
    assert int(answer.headers["retry-after"]) > 0


@pytest.fixture(scope="module")
async def behind_nginx(start_api: StartApi) -> AsyncIterator[tuple[Api, httpx.AsyncClient]]:
    given = {"FILE_DELIVERY": "accel", "MAX_UPLOAD_BYTES": 100_000, "HTTP_WORKERS": 1}
    async with start_api(**given) as api:
        with running_nginx("{}:{}".format(*api.host), api.data_dir / "objects") as url:
            async with httpx.AsyncClient(base_url=url, timeout=30) as client:
                yield api, client


async def test_the_application_itself_sends_no_bytes_but_the_way_to_them(
    behind_nginx: tuple[Api, httpx.AsyncClient],
) -> None:
    api, client = behind_nginx
    body = await api.uploaded(jpeg(80, 60))
    direct, sent = await api.client.get(body["url"]), await client.get(body["url"])
    assert direct.content == b""
    assert direct.headers["x-accel-redirect"].startswith("/_chitram/local/blobs/")
    assert len(sent.content) == body["file_size"]


async def test_an_upload_over_the_limit_is_refused_by_the_application_before_it_has_come(
    behind_nginx: tuple[Api, httpx.AsyncClient],
) -> None:
    _, client = behind_nginx
    url = client.base_url
    with socket.create_connection((url.host, url.port or 0), timeout=10) as connection:
        connection.sendall(
            b"POST /api/v1/images HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n"
            b"Content-Length: 50000000\r\n\r\n" + bytes(1000)
        )
        answer = await asyncio.to_thread(connection.recv, 65_536)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"FILE_TOO_LARGE" in answer


async def test_a_file_that_the_disk_has_lost_is_no_image_that_never_was(
    behind_nginx: tuple[Api, httpx.AsyncClient],
) -> None:
    api, client = behind_nginx
    body = await api.uploaded(jpeg(90, 60))
    for found in api.objects():
        (api.data_dir / "objects" / found).unlink()
    answer = await client.get(body["url"])
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "STORAGE_UNAVAILABLE")
    assert answer.headers["cache-control"] == "no-store"

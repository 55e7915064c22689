"""The one error format, request ids and log lines, whatever is asked."""

from __future__ import annotations

import asyncio
import contextlib
import json
from uuid import UUID

import pytest

from tests.api.conftest import StartApi
from tests.support.api import UPLOAD, Api, log_of
from tests.support.connections import connection
from tests.support.photos import jpeg

ID = UUID("01900000-0000-7000-8000-000000000000")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/", 404, "NOT_FOUND"),
        ("GET", "/nowhere", 404, "NOT_FOUND"),
        ("GET", "/api/v1/images/../../etc/passwd", 404, "NOT_FOUND"),
        ("GET", "/docs/assets/other.js", 404, "NOT_FOUND"),
        ("GET", "/api/v1/images", 401, "NOT_AUTHENTICATED"),
        ("PUT", "/api/v1/images", 405, "METHOD_NOT_ALLOWED"),
        ("PATCH", f"/api/v1/images/{ID}", 400, "INVALID_REQUEST"),
        ("POST", f"/api/v1/images/{ID}/verify", 404, "IMAGE_NOT_FOUND"),
        ("PUT", UPLOAD, 405, "METHOD_NOT_ALLOWED"),
        ("BREW", "/health", 405, "METHOD_NOT_ALLOWED"),
        ("GET", f"/api/v1/images/{ID}", 404, "IMAGE_NOT_FOUND"),
        ("GET", f"/api/v1/images/{ID}/file", 404, "IMAGE_NOT_FOUND"),
        ("DELETE", f"/api/v1/images/{ID}", 404, "IMAGE_NOT_FOUND"),
        ("GET", "/api/v1/images/not-an-id", 404, "IMAGE_NOT_FOUND"),
        ("DELETE", "/api/v1/images/'; DROP TABLE images", 404, "IMAGE_NOT_FOUND"),
        ("GET", "/api/v1/images/%00", 404, "IMAGE_NOT_FOUND"),
        ("GET", f"/api/v1/images/urn:uuid:{ID}", 404, "IMAGE_NOT_FOUND"),
        ("GET", "/api/v1/images/%F0%9F%A6%9A/file", 404, "IMAGE_NOT_FOUND"),
        ("POST", UPLOAD, 400, "INVALID_REQUEST"),
    ],
)
async def test_every_refusal_has_the_one_format(
    api: Api, method: str, path: str, status: int, code: str
) -> None:
    answer = await api.client.request(method, path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    body = answer.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"code", "message", "details"}
    assert body["error"]["code"] == code
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize("path", [f"/api/v1/images/{ID}", f"/api/v1//images/{ID}", "/health", "/nowhere"])
async def test_a_query_longer_than_any_that_means_anything_is_refused(api: Api, path: str) -> None:
    longest = await api.client.get(f"{path}?{'a' * 4096}")
    refused = await api.client.get(f"{path}?{'a' * 4097}")
    assert longest.status_code in {200, 404}
    assert (refused.status_code, refused.headers["cache-control"]) == (414, "no-store")
    error = refused.json()["error"]
    assert (error["code"], error["details"]) == ("QUERY_TOO_LONG", {"max_bytes": 4096})


async def test_405_says_what_is_allowed(api: Api) -> None:
    answer = await api.client.put(UPLOAD)
    assert {method.strip() for method in answer.headers["allow"].split(",")} == {"POST", "OPTIONS"}


@pytest.mark.parametrize("path", ["/health", "/openapi.json", "/nowhere", f"/api/v1/images/{ID}"])
async def test_the_request_id_of_the_client_comes_back(api: Api, path: str) -> None:
    answer = await api.client.get(path, headers={"x-request-id": "my-id.1"})
    assert answer.headers["x-request-id"] == "my-id.1"


async def test_413_and_415_name_what_is_accepted(api: Api) -> None:
    large = await api.upload(bytes(5_242_881))
    assert large.json()["error"]["details"] == {"max_bytes": 5_242_880}
    odd = await api.upload(b"<html></html>", "x.png")
    assert odd.json()["error"]["details"]["accepted"] == ["image/jpeg", "image/png"]


async def test_logs_hold_one_line_per_request_and_no_secret(start_api: StartApi) -> None:
    async with start_api(HTTP_WORKERS=1, LOG_FORMAT="json") as api:
        uploaded = await api.uploaded(jpeg(), "private name.jpg")
        token = uploaded["delete_token"]
        path = f"/api/v1/images/{uploaded['id']}"
        await api.client.get(path, headers={"authorization": "Bearer secret-token"})
        await api.client.delete(f"{path}?delete_token={token}", headers={"x-request-id": "the-delete"})
        # The line is written after the answer is sent.
        api.process.terminate()
        await api.process.wait()
        log = log_of(api)
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    requests = [line for line in lines if line["event"] == "request" and line["path"] != "/health/live"]
    assert [(line["method"], line["status"]) for line in requests] == [
        ("POST", 201),
        ("GET", 401),
        ("DELETE", 204),
    ]
    assert requests[-1]["request_id"] == "the-delete"
    assert requests[0]["client"] == "127.0.0.0/24"
    for secret in (token, "secret-token", "private name", api.database_url):
        assert secret not in log


async def test_a_stopping_api_finishes_what_is_under_way(start_api: StartApi) -> None:
    async with start_api(HTTP_WORKERS=1) as api:
        content = jpeg(640, 480)
        async with connection(*api.host) as (reader, writer):
            writer.write(
                f"POST /api/v1/images HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n\r\n".encode()
            )
            writer.write(content[:1000])
            await writer.drain()
            # Once this is answered, the other request, sent before it, is under way too.
            await api.client.get("/health/live")
            api.process.terminate()
            await _until_refused(*api.host)
            writer.write(content[1000:])
            await writer.drain()
            answer = await reader.read(65536)
            assert answer.startswith(b"HTTP/1.1 201"), answer
        assert await api.process.wait() == 0
        assert await api.kept() == (1, 1, 1)


async def _until_refused(host: str, port: int) -> None:
    """Wait until no new connection is accepted: the stop has begun."""
    async with asyncio.timeout(10):
        with contextlib.suppress(ConnectionError):
            while True:
                async with connection(host, port):
                    pass

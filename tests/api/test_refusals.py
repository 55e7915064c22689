"""What must be refused is refused with the stated error, and nothing of it is kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import httpx
import pytest

from tests.api.conftest import StartApi
from tests.support.api import UPLOAD, Api
from tests.support.connections import connection
from tests.support.photos import HOSTILE, HTML, SVG, jpeg, pixels, png, segment, with_segments

BOUNDARY = "x"
FORM = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}


def part(headers: str, content: bytes = b"") -> bytes:
    return f"--{BOUNDARY}\r\n{headers}\r\n\r\n".encode() + content + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


FILE = 'Content-Disposition: form-data; name="file"; filename="x.jpg"'


# What the API refuses before a decoder sees it.
BEFORE_DECODING = {"zero_bytes": "INVALID_REQUEST", "jpeg_with_many_scans": "FILE_TOO_LARGE"}


@pytest.fixture
async def unchanged(api: Api) -> AsyncIterator[None]:
    before = await api.kept()
    yield
    assert await api.kept() == before
    assert list((api.data_dir / "spool").iterdir()) == []


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.usefixtures("unchanged")
async def test_hostile_content_is_refused(api: Api, name: str) -> None:
    make, code = HOSTILE[name]
    answer = await api.upload(make(), "x.bin", "application/octet-stream")
    code = BEFORE_DECODING.get(name, code)
    assert answer.json()["error"]["code"] == code
    assert 400 <= answer.status_code < 500


@pytest.mark.parametrize(
    ("content", "filename", "declared", "status", "code"),
    [
        (lambda: SVG, "x.png", "image/png", 415, "INVALID_FILE_FORMAT"),
        (png, "x.jpg", "image/jpeg", 415, "CONTENT_TYPE_MISMATCH"),
        (jpeg, "x.jpg", "text/html", 415, "CONTENT_TYPE_MISMATCH"),
        (lambda: bytes(5_242_881), "x.jpg", None, 413, "FILE_TOO_LARGE"),
        (HOSTILE["png_of_400_megapixels"][0], "x.png", None, 422, "IMAGE_TOO_LARGE"),
        (HOSTILE["half_a_jpeg"][0], "x.jpg", None, 422, "CORRUPT_IMAGE"),
    ],
)
@pytest.mark.usefixtures("unchanged")
async def test_each_refusal_has_its_status(
    api: Api, content: Callable[[], bytes], filename: str, declared: str | None, status: int, code: str
) -> None:
    answer = await api.upload(content(), filename, declared)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (form(), "INVALID_REQUEST"),
        (form(part(FILE)), "INVALID_REQUEST"),
        (form(part('Content-Disposition: form-data; name="other"; filename="x"', b"x")), "INVALID_REQUEST"),
        (form(part("Content-Disposition: form-data", jpeg())), "INVALID_REQUEST"),
        (form(part(FILE, jpeg()), part(FILE, jpeg())), "INVALID_REQUEST"),
        (form(part(f"{FILE}\r\nContent-Type: image/jpeg; charset=klingon", jpeg())), "INVALID_REQUEST"),
        (
            form(
                *[part(f'Content-Disposition: form-data; name="f{number}"', b"x") for number in range(10_000)]
            ),
            "INVALID_REQUEST",
        ),
        (
            form(
                part(FILE, jpeg()),
                part('Content-Disposition: form-data; name="visibility"', b"public"),
                part('Content-Disposition: form-data; name="visibility"', b"public"),
            ),
            "INVALID_REQUEST",
        ),
        (
            form(part(FILE, jpeg()), part('Content-Disposition: form-data; name="visibility"', b"secret")),
            "INVALID_REQUEST",
        ),
        (
            form(part(FILE, jpeg()), part('Content-Disposition: form-data; name="visibility"', b"private")),
            "INVALID_REQUEST",
        ),
        (
            form(part(FILE, jpeg()), part('Content-Disposition: form-data; name="expires_in"', b"-5")),
            "INVALID_REQUEST",
        ),
        (
            form(part(FILE, jpeg()), part('Content-Disposition: form-data; name="expires_in"', b"9" * 11)),
            "INVALID_REQUEST",
        ),
        (part(FILE, jpeg()), "INVALID_REQUEST"),
        (b"no form at all", "INVALID_REQUEST"),
        (form(part(f"{FILE}\r\nRepr-Digest: sha-256=:AAAA:", jpeg())), "INVALID_REQUEST"),
        (
            form(part(f"{FILE}\r\nRepr-Digest: sha-256=:{'A' * 43}=:", jpeg())),
            "DIGEST_MISMATCH",
        ),
    ],
    ids=[
        "no_parts",
        "empty_file",
        "other_field",
        "no_name",
        "two_files",
        "unknown_charset",
        "ten_thousand_parts",
        "duplicate_field",
        "unknown_visibility",
        "private_without_owner",
        "negative_life",
        "endless_life",
        "no_end",
        "no_form",
        "malformed_digest",
        "wrong_digest",
    ],
)
@pytest.mark.usefixtures("unchanged")
async def test_a_malformed_form_is_refused(api: Api, body: bytes, code: str) -> None:
    answer = await api.client.post(UPLOAD, content=body, headers=FORM)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)


@pytest.mark.parametrize(
    ("content", "headers", "status", "code"),
    [
        (b"", {}, 400, "INVALID_REQUEST"),
        (b"<html>", {}, 415, "INVALID_FILE_FORMAT"),
        (jpeg(), {"content-type": "image/png"}, 415, "CONTENT_TYPE_MISMATCH"),
        (jpeg(), {"repr-digest": f"sha-256=:{'A' * 43}=:"}, 400, "DIGEST_MISMATCH"),
        (bytes(5_242_881), {}, 413, "FILE_TOO_LARGE"),
    ],
)
@pytest.mark.usefixtures("unchanged")
async def test_a_bare_body_is_refused_likewise(
    api: Api, content: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    answer = await api.client.post("/api/v1/images", content=content, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


@pytest.mark.usefixtures("unchanged")
async def test_a_chunked_body_is_refused_as_soon_as_it_passes_the_limit(api: Api) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(2000):
            sent += 1
            yield bytes(100_000)

    try:
        answer = await api.client.post("/api/v1/images", content=endless())
    except httpx.TransportError:
        pass  # it wrote on long past the refusal, until the connection was closed
    else:
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "FILE_TOO_LARGE")
    assert sent < 2000


@pytest.mark.usefixtures("unchanged")
async def test_a_body_that_stops_half_way_leaves_nothing(api: Api) -> None:
    for _ in range(3):
        body = form(part(FILE, jpeg()))
        head = (
            f"POST {UPLOAD} HTTP/1.1\r\nHost: x\r\nContent-Type: {FORM['content-type']}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        async with connection(*api.host) as (_, writer):
            writer.write(head.encode() + body[: len(body) // 2])
            await writer.drain()
    assert (await api.client.get("/health/live")).status_code == 200


async def test_a_body_of_one_byte_a_second_runs_out_of_time(start_api: StartApi) -> None:
    async with start_api(UPLOAD_BODY_SECONDS=1, HTTP_WORKERS=1) as slow:
        async with connection(*slow.host) as (reader, writer):
            writer.write(
                f"POST {UPLOAD} HTTP/1.1\r\nHost: x\r\nContent-Type: {FORM['content-type']}\r\n"
                "Content-Length: 1000\r\n\r\n".encode()
            )
            answered = asyncio.create_task(reader.readuntil(b"}}"))
            for byte in form(part(FILE, jpeg())):
                writer.write(bytes([byte]))
                done, _ = await asyncio.wait([answered], timeout=0.2)
                if done:
                    break
            answer = await answered
            assert answer.startswith(b"HTTP/1.1 408")
            assert b"UPLOAD_TIMEOUT" in answer
        assert await slow.kept() == (0, 0, 0)


async def test_a_bomb_does_not_grow_the_api(start_api: StartApi) -> None:
    async with start_api(HTTP_WORKERS=1) as fresh:
        await fresh.uploaded(jpeg())
        before = fresh.memory()
        for name in ("png_of_169_megapixels", "png_of_400_megapixels"):
            answer = await fresh.upload(HOSTILE[name][0](), "x.png")
            assert (answer.status_code, answer.json()["error"]["code"]) == (422, "IMAGE_TOO_LARGE")
        assert fresh.memory() - before < 20 * 1024 * 1024


async def test_html_in_a_comment_is_kept_inert(api: Api, keeping_api: Api) -> None:
    content = with_segments(jpeg(), segment(0xFE, HTML))
    for server, still_there in ((api, False), (keeping_api, True)):
        uploaded = await server.uploaded(content, "x.jpg")
        file = await server.client.get(uploaded["url"])
        assert (HTML in file.content) is still_there
        assert file.headers["content-type"] == "image/jpeg"
        assert file.headers["x-content-type-options"] == "nosniff"
        policy = file.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "sandbox" in policy
        assert (pixels(file.content) == pixels(content)).all()

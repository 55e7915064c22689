"""What existing clients rely on, byte for byte."""

from __future__ import annotations

import asyncio
import json
import re
from datetime import datetime
from uuid import UUID

import pytest

from tests.support.api import Api
from tests.support.photos import jpeg


async def test_an_upload_is_read_sent_deleted_and_then_gone(api: Api) -> None:
    content = jpeg(640, 480)
    uploaded = await api.uploaded(content, "holiday.jpg")
    path = f"/api/v1/images/{uploaded['id']}"
    metadata = await api.client.get(path)
    assert metadata.status_code == 200
    assert metadata.json() == {key: value for key, value in uploaded.items() if key != "delete_token"}
    file = await api.client.get(f"{path}/file")
    assert file.status_code == 200
    assert len(file.content) == uploaded["file_size"]
    token = uploaded["delete_token"]
    assert (await api.client.delete(path, params={"delete_token": token})).status_code == 204
    for gone in (path, f"{path}/file", f"{path}/thumbnail", f"{path}/optimised"):
        answer = await api.client.get(gone)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "IMAGE_NOT_FOUND")


async def test_the_answer_has_every_field_of_the_contract(api: Api) -> None:
    answer = await api.upload(jpeg(64, 48), "a.jpg", visibility="public", expires_in="60")
    body = answer.json()
    made = UUID(body["id"])
    assert made.version == 7
    path = f"/api/v1/images/{made}"
    assert answer.headers["location"] == path
    created = datetime.fromisoformat(body.pop("created_at"))
    assert datetime.fromisoformat(body.pop("updated_at")) == created
    assert round((datetime.fromisoformat(body.pop("expires_at")) - created).total_seconds()) == 60
    assert re.fullmatch(r"[0-9a-f]{64}", body.pop("checksum"))
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", body.pop("delete_token"))
    assert body.pop("file_size") > 0
    assert body == {
        "id": str(made),
        "filename": "a.jpg",
        "content_type": "image/jpeg",
        "width": 64,
        "height": 48,
        "visibility": "public",
        "url": f"{path}/file",
        "processing": "pending",
        "thumbnail_ready": False,
        "thumbnail_url": None,
        "thumbnails": {},
        "owner_id": None,
    }


async def test_times_end_in_z(api: Api) -> None:
    assert (await api.uploaded(jpeg(64, 48)))["created_at"].endswith("Z")


async def test_the_answer_holds_one_id_in_compact_json(api: Api) -> None:
    text = (await api.upload(jpeg(64, 48))).text
    assert text.count('"id":"') == 1
    assert text == json.dumps(json.loads(text), separators=(",", ":"), ensure_ascii=False)


async def test_health_says_healthy_in_compact_json(api: Api) -> None:
    answer = await api.client.get("/health")
    assert answer.status_code == 200
    assert '"status":"healthy"' in answer.text
    assert set(answer.json()["dependencies"]) == {"database", "storage", "valkey"}


@pytest.mark.parametrize(("path", "status"), [("/health/live", "alive"), ("/health/ready", "ready")])
async def test_the_narrower_health_answers(api: Api, path: str, status: str) -> None:
    answer = await api.client.get(path)
    assert (answer.status_code, answer.json()) == (200, {"status": status})
    assert answer.headers["cache-control"] == "no-store"


async def test_the_token_is_taken_from_a_header_too(api: Api) -> None:
    uploaded = await api.uploaded(jpeg(64, 48))
    answer = await api.client.delete(
        f"/api/v1/images/{uploaded['id']}", headers={"X-Delete-Token": uploaded["delete_token"]}
    )
    assert answer.status_code == 204


@pytest.mark.parametrize(
    ("token", "code"), [(None, "DELETE_TOKEN_REQUIRED"), ("guess", "INVALID_DELETE_TOKEN")]
)
async def test_deleting_without_the_token_is_forbidden(api: Api, token: str | None, code: str) -> None:
    uploaded = await api.uploaded(jpeg(64, 48))
    answer = await api.client.delete(
        f"/api/v1/images/{uploaded['id']}", params={"delete_token": token} if token else {}
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, code)
    assert (await api.client.get(uploaded["url"])).status_code == 200


async def test_metadata_says_whether_it_comes_from_a_cache(api: Api) -> None:
    uploaded = await api.uploaded(jpeg(64, 48))
    path = f"/api/v1/images/{uploaded['id']}"
    first = await api.client.get(path)
    assert (first.headers["x-cache"], first.headers["cache-control"]) == ("MISS", "no-cache")
    async with asyncio.timeout(10):
        while (again := await api.client.get(path)).headers["x-cache"] != "HIT":
            assert again.headers["x-cache"] == "MISS"
    assert again.content == first.content
    assert {answer.headers["content-type"] for answer in (first, again)} == {"application/json"}


async def test_a_deleted_image_is_gone_though_it_was_cached(api: Api) -> None:
    uploaded = await api.uploaded(jpeg(64, 48))
    path = f"/api/v1/images/{uploaded['id']}"
    for address in (path, uploaded["url"]):
        assert (await api.client.get(address)).status_code == 200
    gone = await api.client.delete(path, params={"delete_token": uploaded["delete_token"]})
    assert gone.status_code == 204
    async with asyncio.timeout(5):
        # Another process of the server may answer, and hear of it a moment later.
        while (await api.client.get(path)).status_code != 404:
            await asyncio.sleep(0.01)
    assert (await api.client.get(uploaded["url"])).status_code == 404


async def test_a_thumbnail_is_not_ready_yet(api: Api) -> None:
    uploaded = await api.uploaded(jpeg(64, 48))
    for size in ("", "?size=small", "?size=medium", "?size=large"):
        answer = await api.client.get(f"/api/v1/images/{uploaded['id']}/thumbnail{size}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "THUMBNAIL_NOT_READY")
        assert int(answer.headers["retry-after"]) > 0
        assert answer.headers["cache-control"] == "no-store"
    answer = await api.client.get(f"/api/v1/images/{uploaded['id']}/thumbnail?size=huge")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "INVALID_REQUEST")


async def test_the_fast_path_takes_the_bare_bytes(api: Api) -> None:
    answer = await api.client.post(
        "/api/v1/images",
        params={"filename": "bare.jpg", "visibility": "public"},
        content=jpeg(64, 48),
        headers={"content-type": "image/jpeg"},
    )
    assert answer.status_code == 201
    assert (answer.json()["filename"], answer.json()["visibility"]) == ("bare.jpg", "public")


async def test_the_fast_path_takes_the_name_from_content_disposition(api: Api) -> None:
    answer = await api.client.post(
        "/api/v1/images",
        content=jpeg(64, 48),
        headers={"content-disposition": "attachment; filename*=UTF-8''%E0%B0%9A%E0%B0%BF%E0%B0%A4.jpg"},
    )
    assert answer.status_code == 201
    assert answer.json()["filename"] == "\u0c1a\u0c3f\u0c24.jpg"


async def test_a_batch_answers_file_by_file_in_order(api: Api) -> None:
    files = [
        ("files", ("one.jpg", jpeg(64, 48))),
        ("files", ("page.html", b"<html></html>")),
        ("files", ("big.jpg", bytes(5_242_881))),
        ("files", ("empty.jpg", b"")),
        ("files", ("two.jpg", jpeg(48, 64))),
    ]
    answer = await api.client.post("/api/v1/images/batch", files=files, data={"visibility": "public"})
    assert answer.status_code == 200
    results = answer.json()["results"]
    assert [result["status"] for result in results] == [201, 415, 413, 400, 201]
    assert [results[0]["filename"], results[4]["filename"]] == ["one.jpg", "two.jpg"]
    assert results[0]["delete_token"] != results[4]["delete_token"]
    assert results[1]["error"]["code"] == "INVALID_FILE_FORMAT"
    assert results[2]["error"]["code"] == "FILE_TOO_LARGE"
    assert results[4]["visibility"] == "public"


async def test_a_batch_of_too_many_files_is_refused_whole(api: Api) -> None:
    before = await api.kept()
    files = [("files", (f"{number}.jpg", jpeg(64, 48))) for number in range(21)]
    answer = await api.client.post("/api/v1/images/batch", files=files)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "INVALID_REQUEST")
    assert await api.kept() == before

"""Uploading once under an Idempotency-Key, however often it is asked for."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import httpx
import pytest

from tests.api.conftest import StartApi
from tests.support.api import UPLOAD, Api
from tests.support.photos import jpeg
from tests.support.proxy import Mode, Proxy

RAW = "/api/v1/images"
UPLOADS = "/api/v1/uploads"


def new_key() -> str:
    return str(uuid.uuid4())


@pytest.fixture(scope="module")
async def api(start_api: StartApi) -> AsyncIterator[Api]:
    """An API of two processes, shared by the tests of this module."""
    async with start_api() as started:
        yield started


async def ask(api: Api, key: str, content: bytes, *, by: str = "form", **options: Any) -> httpx.Response:
    headers = {"idempotency-key": key}
    if by == "form":
        return await api.client.post(
            UPLOAD, files={"file": ("a.jpg", content)}, data=options, headers=headers
        )
    return await api.client.post(RAW, content=content, params=options, headers=headers)


def code_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


@pytest.mark.parametrize("by", ["form", "bytes"])
async def test_a_repeat_gets_the_first_answer(api: Api, by: str) -> None:
    before, key, content = await api.kept(), new_key(), jpeg(61, 47 if by == "form" else 48)
    first = await ask(api, key, content, by=by, visibility="public", expires_in="3600")
    again = await ask(api, key, content, by=by, visibility="public", expires_in="3600")
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.content == first.content
    assert again.headers["location"] == first.headers["location"]
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert again.headers["cache-control"] == "no-store"
    assert await api.kept() == tuple(count + 1 for count in before)
    body = again.json()
    gone = await api.client.delete(
        body["url"][: -len("/file")], params={"delete_token": body["delete_token"]}
    )
    assert gone.status_code == 204


async def test_a_key_is_good_for_one_request(api: Api) -> None:
    key, content = new_key(), jpeg(62, 47)
    first = await ask(api, key, content)
    assert first.status_code == 201
    before = await api.kept()
    assert code_of(await ask(api, key, jpeg(62, 48))) == (409, "IDEMPOTENCY_KEY_REUSED")
    assert code_of(await ask(api, key, content, visibility="public")) == (409, "IDEMPOTENCY_KEY_REUSED")
    assert code_of(await ask(api, key, content, expires_in="60")) == (409, "IDEMPOTENCY_KEY_REUSED")
    assert await api.kept() == before
    assert (await ask(api, key, content)).json() == first.json()


async def test_without_a_key_every_upload_is_another_image(api: Api) -> None:
    content = jpeg(63, 47)
    assert (await api.uploaded(content))["id"] != (await api.uploaded(content))["id"]


async def test_a_refused_upload_frees_its_key(api: Api) -> None:
    key = new_key()
    assert code_of(await ask(api, key, b"no image")) == (415, "INVALID_FILE_FORMAT")
    assert (await ask(api, key, jpeg(64, 47))).status_code == 201


async def test_a_deleted_image_frees_its_key(api: Api) -> None:
    key, content = new_key(), jpeg(65, 47)
    first = (await ask(api, key, content)).json()
    gone = await api.client.delete(
        f"/api/v1/images/{first['id']}", headers={"x-delete-token": first["delete_token"]}
    )
    assert gone.status_code == 204
    second = await ask(api, key, content)
    assert second.status_code == 201
    assert second.json()["id"] != first["id"]


async def test_many_at_once_over_two_processes_make_one_image(api: Api) -> None:
    for round_ in range(3):
        before, key, content = await api.kept(), new_key(), jpeg(66, 47 + round_)
        async with contextlib.AsyncExitStack() as stack:
            # Each on a connection of its own, so that both processes get some.
            clients = [
                await stack.enter_async_context(httpx.AsyncClient(base_url=api.url, timeout=30))
                for _ in range(20)
            ]
            answers = await asyncio.gather(
                *(client.post(RAW, content=content, headers={"idempotency-key": key}) for client in clients)
            )
        made = [answer for answer in answers if answer.status_code == 201]
        assert len({answer.json()["id"] for answer in made}) == 1
        assert sum("idempotency-replayed" not in answer.headers for answer in made) == 1
        refused = [answer for answer in answers if answer.status_code != 201]
        assert {code_of(answer) for answer in refused} <= {(409, "IDEMPOTENCY_IN_PROGRESS")}
        assert all(int(answer.headers["retry-after"]) > 0 for answer in refused)
        assert await api.kept() == tuple(count + 1 for count in before), Counter(
            answer.status_code for answer in answers
        )


@pytest.mark.parametrize("key", ["order-42", "two words", "x" * 256, ""])
async def test_a_key_that_is_none_is_refused(api: Api, key: str) -> None:
    before = await api.kept()
    answer = await ask(api, key, jpeg(67, 47))
    assert code_of(answer) == (400, "INVALID_REQUEST")
    assert answer.json()["error"]["details"] == {"field": "Idempotency-Key"}
    assert await api.kept() == before


async def test_a_batch_takes_no_key(api: Api) -> None:
    answer = await api.client.post(
        f"{RAW}/batch",
        files=[("files", ("a.jpg", jpeg(68, 47)))],
        headers={"idempotency-key": new_key()},
    )
    assert code_of(answer) == (400, "INVALID_REQUEST")


async def test_a_direct_upload_is_completed_once_and_told_again(api: Api) -> None:
    key, content = new_key(), jpeg(69, 47)
    begun = (await api.client.post(UPLOADS, json={"filename": "a.jpg"})).json()
    put = await api.client.request(begun["method"], begun["url"], content=content, headers=begun["headers"])
    assert put.is_success

    async def complete(**headers: str) -> httpx.Response:
        return await api.client.post(
            f"{UPLOADS}/{begun['upload_id']}/complete",
            headers={"x-upload-token": begun["upload_token"], "idempotency-key": key} | headers,
        )

    first, again = await complete(), await complete()
    assert first.status_code == 201, first.text
    assert again.content == first.content
    assert (again.status_code, again.headers["location"]) == (201, first.headers["location"])
    assert again.headers["idempotency-replayed"] == "true"
    digest = base64.b64encode(hashlib.sha256(content).digest()).decode()
    assert code_of(await complete(**{"repr-digest": f"sha-256=:{digest}:"})) == (
        409,
        "IDEMPOTENCY_KEY_REUSED",
    )
    assert code_of(await complete(**{"x-upload-token": "wrong"})) == (409, "IDEMPOTENCY_KEY_REUSED")
    assert code_of(await complete(**{"idempotency-key": new_key()})) == (409, "UPLOAD_ALREADY_COMPLETED")


@pytest.mark.only_over("local", reason="is not about the store")
async def test_a_repeat_takes_a_unit_of_the_rate_limit(start_api: StartApi) -> None:
    async with start_api(UPLOADS_PER_MINUTE=2) as api:
        key, content = new_key(), jpeg(70, 47)
        answers = [await ask(api, key, content) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [201, 201, 429]


@pytest.mark.only_over("local", reason="is not about the store")
async def test_neither_key_nor_token_is_kept_or_logged(api: Api) -> None:
    key = new_key()
    token = (await ask(api, key, jpeg(71, 47))).json()["delete_token"]
    connection = await asyncpg.connect(api.database_url)
    try:
        rows = await connection.fetch("SELECT * FROM idempotency_keys")
    finally:
        await connection.close()
    kept = b"".join(value for row in rows for value in row.values() if isinstance(value, bytes))
    assert rows
    for secret in (key, token):
        assert secret.encode() not in kept
        assert secret not in (api.data_dir / "api.log").read_text()


@pytest.mark.only_over("local", reason="is about the database")
async def test_a_repeat_after_a_lost_commit_gets_the_same_image(start_api: StartApi) -> None:
    async with contextlib.AsyncExitStack() as stack:
        proxies: list[Proxy] = []

        async def through(url: str) -> str:
            proxies.append(await stack.enter_async_context(Proxy(url)))
            return proxies[0].url

        api = await stack.enter_async_context(start_api(through, HTTP_WORKERS=1))
        key, content = new_key(), jpeg(72, 47)
        # The claim of the key is a commit of its own, and comes first. Then the database is away.
        proxies[0].answers_to_pass, proxies[0].after_loss = 1, Mode.CUT
        proxies[0].mode = Mode.LOSE_COMMIT_ANSWER
        first = await ask(api, key, content)
        assert code_of(first) == (503, "DATABASE_UNAVAILABLE")
        proxies[0].mode = Mode.PASS
        again = await ask(api, key, content)
        assert again.status_code == 201, again.text
        assert await api.kept() == (1, 1, 1)
        assert again.headers["idempotency-replayed"] == "true"
        body = again.json()
        gone = await api.client.delete(
            f"/api/v1/images/{body['id']}", headers={"x-delete-token": body["delete_token"]}
        )
        assert gone.status_code == 204

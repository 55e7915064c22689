"""What clients are told when the database or the store is away, and that nothing is kept then."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.api.conftest import StartApi
from tests.support.api import Api
from tests.support.photos import jpeg
from tests.support.proxy import Mode, Proxy

# What a client is promised.
LIMIT_SECONDS = 5.0
AUTH = "/api/v1/auth"
CREDENTIALS = {"email": "somebody@example.com", "password": "four random words"}


@pytest.fixture(scope="module")
async def behind(start_api: StartApi) -> AsyncIterator[tuple[Api, Proxy]]:
    async with contextlib.AsyncExitStack() as stack:

        async def through(url: str) -> str:
            return (await stack.enter_async_context(proxy_of(url))).url

        opened: list[Proxy] = []

        @contextlib.asynccontextmanager
        async def proxy_of(url: str) -> AsyncIterator[Proxy]:
            async with Proxy(url) as proxy:
                opened.append(proxy)
                yield proxy

        api = await stack.enter_async_context(start_api(through, HTTP_WORKERS=1))
        yield api, opened[0]


async def signed_in(api: Api) -> dict[str, str]:
    """Header fields of somebody whose session Valkey knows."""
    somebody = {"email": f"{uuid4().hex}@example.com", "password": "four random words"}
    answer = await api.client.post(f"{AUTH}/register", json=somebody)
    headers = {"authorization": f"Bearer {answer.json()['access_token']}"}
    assert (await api.client.get(f"{AUTH}/me", headers=headers)).status_code == 200
    return headers


@pytest.mark.parametrize("mode", [Mode.CUT, Mode.HANG])
async def test_without_the_database_everything_says_so_in_time(behind: tuple[Api, Proxy], mode: Mode) -> None:
    api, proxy = behind
    uploaded = await api.uploaded(jpeg())
    before = await api.kept()
    sessions = [await signed_in(api) for _ in range(2)]
    proxy.mode = mode
    if mode is Mode.CUT:
        proxy.cut_all()
    try:
        started = time.monotonic()
        answers = await asyncio.gather(
            api.upload(jpeg(48, 64)),
            api.client.get(f"/api/v1/images/{uploaded['id']}"),
            api.client.get(uploaded["url"]),
            api.client.delete(
                f"/api/v1/images/{uploaded['id']}", params={"delete_token": uploaded["delete_token"]}
            ),
            api.client.post(f"{AUTH}/login", json=CREDENTIALS),
            api.client.post(f"{AUTH}/register", json=CREDENTIALS),
            api.client.post(f"{AUTH}/refresh", json={"refresh_token": "any"}),
            api.client.post(f"{AUTH}/logout", headers=sessions[0]),
            api.client.delete(f"{AUTH}/api-keys/{uploaded['id']}", headers=sessions[1]),
        )
        assert time.monotonic() - started < LIMIT_SECONDS
        for answer in answers:
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "DATABASE_UNAVAILABLE")
            assert int(answer.headers["retry-after"]) > 0
        health = await api.client.get("/health")
        assert (health.status_code, health.json()["status"]) == (503, "unhealthy")
        assert health.json()["dependencies"]["database"] == {"state": "down"}
        assert (await api.client.get("/health/ready")).status_code == 503
        assert (await api.client.get("/health/live")).status_code == 200
    finally:
        proxy.mode = Mode.PASS
    assert await api.kept() == before
    assert (await api.client.get(uploaded["url"])).status_code == 200


async def test_a_lost_answer_to_the_commit_keeps_the_whole_image(behind: tuple[Api, Proxy]) -> None:
    api, proxy = behind
    before = await api.kept()
    proxy.mode = Mode.LOSE_COMMIT_ANSWER
    try:
        answer = await api.upload(jpeg(50, 40))
    finally:
        proxy.mode = Mode.PASS
    # It looked again and found its row, so the client gets the whole answer after all.
    assert answer.status_code == 201, answer.text
    assert await api.kept() == tuple(count + 1 for count in before)
    assert (await api.client.get(answer.json()["url"])).status_code == 200


@pytest.mark.only_over("local", reason="accounts do not depend on where images are kept")
async def test_a_lost_answer_to_the_commit_loses_no_token(behind: tuple[Api, Proxy]) -> None:
    api, proxy = behind
    proxy.mode = Mode.LOSE_COMMIT_ANSWER
    try:
        registered = await api.client.post(f"{AUTH}/register", json=CREDENTIALS)
        signed_in = await api.client.post(f"{AUTH}/login", json=CREDENTIALS)
        token = {"refresh_token": signed_in.json()["refresh_token"]}
        refreshed = await api.client.post(f"{AUTH}/refresh", json=token)
    finally:
        proxy.mode = Mode.PASS
    assert [answer.status_code for answer in (registered, signed_in, refreshed)] == [201, 200, 200]
    token = {"refresh_token": refreshed.json()["refresh_token"]}
    assert (await api.client.post(f"{AUTH}/refresh", json=token)).status_code == 200


async def test_a_commit_that_hangs_is_answered_in_time(behind: tuple[Api, Proxy]) -> None:
    api, proxy = behind
    proxy.mode = Mode.HANG_AT_COMMIT
    try:
        started = time.monotonic()
        answer = await api.upload(jpeg(52, 40))
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "DATABASE_UNAVAILABLE")
        assert time.monotonic() - started < LIMIT_SECONDS
    finally:
        proxy.mode = Mode.PASS
        proxy.cut_all()
    assert (await api.upload(jpeg(52, 40))).status_code == 201


@pytest.mark.only_over("local", reason="a directory is lost")
async def test_a_lost_store_is_said_and_never_made_anew(start_api: StartApi) -> None:
    async with start_api(HTTP_WORKERS=1) as api:
        uploaded = await api.uploaded(jpeg())
        objects = api.data_dir / "objects"
        objects.rename(api.data_dir / "unplugged")
        started = time.monotonic()
        for answer in (await api.upload(jpeg(48, 64)), await api.client.get(uploaded["url"])):
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "STORAGE_UNAVAILABLE")
            assert int(answer.headers["retry-after"]) > 0
        assert time.monotonic() - started < LIMIT_SECONDS
        assert (await api.client.get(f"/api/v1/images/{uploaded['id']}")).status_code == 200
        assert not objects.exists()
        (api.data_dir / "unplugged").rename(objects)
        assert (await api.client.get(uploaded["url"])).status_code == 200
        assert await api.kept() == (1, 1, 1)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["/bin/mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"mounting needs rights: {mounted.stderr.decode().strip()}")
    yield place
    subprocess.run(["/bin/umount", "--lazy", str(place)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
@pytest.mark.only_over("local", reason="the disk of a directory is full")
async def test_a_full_store_is_said_and_nothing_is_kept(start_api: StartApi, small_disk: Path) -> None:
    async with start_api(HTTP_WORKERS=1, STORAGE_URLS=f"small=file://{small_disk}") as api:
        kept = await api.uploaded(jpeg(400, 300))
        large = jpeg(2400, 1800, quality=98)
        assert len(large) > 2 * 1024 * 1024
        answer = await api.upload(large)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "STORAGE_UNAVAILABLE")
        assert await api.rows("blobs") == 1
        assert len([path for path in small_disk.rglob("*") if path.is_file()]) == 1
        assert (await api.client.get(kept["url"])).status_code == 200
        assert (await api.client.get("/health/live")).status_code == 200


async def test_a_spool_that_cannot_be_written_is_a_store_that_is_away(start_api: StartApi) -> None:
    async with start_api(HTTP_WORKERS=1) as api:
        await api.uploaded(jpeg())
        shutil.rmtree(api.data_dir / "spool")
        # What is short stays in memory.
        answer = await api.upload(jpeg(1600, 1200))
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "STORAGE_UNAVAILABLE")
        assert await api.kept() == (1, 1, 1)


async def test_without_valkey_everything_goes_on_and_health_is_degraded(start_api: StartApi) -> None:
    async with start_api(HTTP_WORKERS=1, VALKEY_URL="valkey://127.0.0.1:9/0") as api:
        uploaded = await api.uploaded(jpeg())
        assert (await api.client.get(uploaded["url"])).status_code == 200
        gone = await api.client.delete(
            f"/api/v1/images/{uploaded['id']}", params={"delete_token": uploaded["delete_token"]}
        )
        assert gone.status_code == 204
        health = await api.client.get("/health")
        assert (health.status_code, health.json()["status"]) == (200, "degraded")
        assert health.json()["dependencies"]["valkey"] == {"state": "down"}
        assert (await api.client.get("/health/ready")).status_code == 200


@pytest.mark.only_over("local", reason="is not about the store")
async def test_a_valkey_that_hangs_delays_nobody_who_asks_for_health(
    start_api: StartApi, valkey_url: str
) -> None:
    async with Proxy(valkey_url) as proxy, start_api(VALKEY_URL=proxy.url, HTTP_WORKERS=1) as api:
        proxy.mode = Mode.HANG
        for path, expected in (("/health/ready", "ready"), ("/health", "degraded")):
            started = time.monotonic()
            answer = await api.client.get(path)
            # The client of Valkey itself would have given up after 2 seconds.
            assert time.monotonic() - started < 1.5
            assert (answer.status_code, answer.json()["status"]) == (200, expected)
        proxy.mode = Mode.PASS
        proxy.cut_all()
        async with asyncio.timeout(10):
            while (await api.client.get("/health")).json()["status"] != "healthy":
                await asyncio.sleep(0.05)

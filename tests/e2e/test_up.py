"""The embedded stack as a person uses it, and what survives when parts of it are killed."""

from __future__ import annotations

import asyncio
import hashlib
import json
import signal
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.support.photos import camera_jpeg, jpeg, pixels, unique
from tests.support.up import Site, Up, new_site, running_up

UPLOADS = 200
CLIENTS = 8
RECOVER_SECONDS = 60
# Longest sides, and the others of a photo of 3 to 4.
THUMBNAILS = {"small": (150, 112), "medium": (300, 225), "large": (600, 450)}
RESOURCES = ("", "/file", "/thumbnail?size=small", "/thumbnail", "/thumbnail?size=large", "/optimised")


@pytest.fixture
def site() -> Iterator[Site]:
    with new_site() as made:
        yield made


async def test_a_photo_from_the_camera_makes_the_whole_round(site: Site) -> None:
    content = camera_jpeg()
    async with running_up(site) as up:
        answer = await up.client.post("/api/v1/images/upload", files={"file": ("DSC_0001.JPG", content)})
        assert answer.status_code == 201, answer.text
        body = answer.json()
        file = await up.client.get(body["url"])
        assert hashlib.sha256(file.content).hexdigest() == body["checksum"]
        assert (pixels(file.content) == pixels(content)).all()
        part = await up.client.get(body["url"], headers={"range": "bytes=0-99"})
        assert (part.status_code, part.content) == (206, file.content[:100])
        fresh = await up.client.get(body["url"], headers={"if-none-match": file.headers["etag"]})
        assert fresh.status_code == 304
        await processed(up, body["id"])
        await check_renditions(up, body["id"], body["file_size"])
        # For a proxy that delivers files and is in the group that owns them.
        objects = site.data_dir / "objects"
        modes = {
            (path.is_dir(), stat.S_IMODE(path.stat().st_mode))
            for path in (objects, *objects.glob("blobs/**/*"), *objects.glob("renditions/**/*"))
        }
        assert modes == {(True, 0o750), (False, 0o640)}
    async with running_up(site) as up:  # a second start goes on with the same data
        assert (await up.client.get(body["url"])).content == file.content
        path = f"/api/v1/images/{body['id']}"
        gone = await up.client.delete(path, params={"delete_token": body["delete_token"]})
        assert gone.status_code == 204
        for resource in RESOURCES:
            assert (await up.client.get(f"{path}{resource}")).status_code == 404
        async with asyncio.timeout(RECOVER_SECONDS):
            while site.objects():
                await asyncio.sleep(0.05)
    status, report = await site.run("admin", "reconcile")
    assert status == 0, report
    assert "rows without their object: 0" in report


async def test_variables_meant_for_another_postgresql_do_no_harm(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGSSLMODE", "require")
    monkeypatch.setenv("PGHOST", "db.example")
    site.settings["HTTP_WORKERS"] = "8"
    async with running_up(site) as up:
        assert (await up.client.get("/health")).json()["status"] == "healthy"
        assert (await site.run("admin", "reconcile"))[0] == 0


async def test_admin_works_beside_the_running_stack(site: Site) -> None:
    async with running_up(site) as up:
        uploaded = await up.client.post("/api/v1/images", content=jpeg())
        await processed(up, uploaded.json()["id"])
        kept = site.objects()
        lost = site.data_dir / "objects" / "blobs" / "00"
        lost.mkdir(parents=True, exist_ok=True)
        name = "01a20406-66a0-711c-ab4d-9b7193034600"
        (lost / name).write_bytes(b"lost")
        status, report = await site.run("admin", "reconcile", "--grace-seconds", "0")
        assert status == 1
        assert "objects without a row:     1" in report
        assert name in site.objects()
        status, report = await site.run("admin", "reconcile", "--apply", "--grace-seconds", "0")
        assert status == 0, report
        assert "removed:                 1" in report
        assert site.objects() == kept
        assert await site.run("admin", "jobs") == (0, "given up: 0\n")
        assert await site.run("admin", "jobs", "--requeue") == (0, "requeued: 0\n")


async def processed(up: Up, image_id: str) -> None:
    """Wait until everything is made of an image that will be."""
    path = f"/api/v1/images/{image_id}"
    async with asyncio.timeout(RECOVER_SECONDS):
        while (await up.client.get(path)).json()["processing"] == "pending":
            await asyncio.sleep(0.05)
        while (await up.client.head(f"{path}/optimised")).status_code == 404:
            await asyncio.sleep(0.05)


async def check_renditions(up: Up, image_id: str, file_size: int) -> None:
    """What was made of an upright photo of 3 to 4 is what it says, and shows all of it."""
    path = f"/api/v1/images/{image_id}"
    body = (await up.client.get(path)).json()
    assert (body["processing"], body["thumbnail_ready"]) == ("ready", True)
    for size, (high, wide) in THUMBNAILS.items():
        told = body["thumbnails"][size]
        sent = await up.client.get(told["url"])
        assert (told["width"], told["height"], told["file_size"]) == (wide, high, len(sent.content))
        assert pixels(sent.content).shape == (high, wide, 3)
        assert sent.headers["etag"] == f'"{hashlib.sha256(sent.content).hexdigest()}"'
    webp = await up.client.get(f"{path}/optimised", headers={"accept": "image/webp"})
    plain = await up.client.get(f"{path}/optimised")
    assert len(webp.content) <= len(plain.content) <= file_size
    assert (webp.headers["vary"], plain.headers["content-type"]) == ("Accept", "image/jpeg")


@dataclass
class Load:
    """Uploads under way, and those that were answered with 201."""

    up: Up
    content: bytes
    accepted: list[dict[str, Any]] = field(default_factory=list)
    refused: int = 0
    sent: int = 0
    half_way: asyncio.Event = field(default_factory=asyncio.Event)

    async def client(self) -> None:
        while self.sent < UPLOADS:
            self.sent += 1
            if self.sent == UPLOADS // 4:
                self.half_way.set()
            try:
                answer = await self.up.client.post(
                    "/api/v1/images", content=unique(self.content, self.sent), timeout=20
                )
            except httpx.TransportError:
                self.refused += 1
                await asyncio.sleep(0.02)
                continue
            if answer.status_code == 201:
                self.accepted.append(answer.json())
            else:
                assert answer.status_code == 503, answer.text
                self.refused += 1

    async def run(self) -> None:
        await asyncio.gather(*(self.client() for _ in range(CLIENTS)))


@pytest.mark.parametrize("victim", ["postgres", "valkey-server", "api", "api worker", "parent"])
async def test_what_was_accepted_survives_a_kill(site: Site, victim: str) -> None:
    async with running_up(site) as up:
        load = Load(up, jpeg(320, 240))
        running = asyncio.create_task(load.run())
        await load.half_way.wait()
        kill(up, victim)
        await running
        assert load.accepted
        if victim != "parent":
            await settled(up)
            await check(site, up, load.accepted)
    if victim == "parent":
        async with running_up(site) as up:
            await check(site, up, load.accepted)


def kill(up: Up, victim: str) -> None:
    if victim == "parent":
        up.process.kill()
    elif victim == "api worker":
        up.find("api").children()[0].kill()
    else:
        up.find(victim).kill()


async def settled(up: Up) -> None:
    """Wait until everything is healthy again, by itself."""
    async with asyncio.timeout(RECOVER_SECONDS):
        healthy = 0
        while healthy < 5:
            try:
                answer = await up.client.get("/health")
            except httpx.TransportError:
                healthy = 0
                await asyncio.sleep(0.05)
                continue
            healthy = healthy + 1 if answer.json()["status"] == "healthy" else 0
            await asyncio.sleep(0.05)


async def check(site: Site, up: Up, accepted: list[dict[str, Any]]) -> None:
    """Every accepted upload downloads right, and after reconcile every object belongs to a row."""
    for body in accepted:
        file = await up.client.get(body["url"])
        assert file.status_code == 200, body
        assert hashlib.sha256(file.content).hexdigest() == body["checksum"]
    status, report = await site.run("admin", "reconcile", "--apply", "--grace-seconds", "0")
    # 0 says that every object without a row was removed and no row lacks its object.
    assert status == 0, report
    assert "rows without their object: 0" in report
    async with httpx.AsyncClient(base_url=up.url) as client:
        assert (await client.get(accepted[-1]["url"])).status_code == 200


async def test_every_process_of_the_stack_is_gone_after_a_kill_of_the_parent(site: Site) -> None:
    async with running_up(site) as up:
        family = up.children()
        names = {child.name() for child in family}
        assert "valkey-server" in names
        up.process.send_signal(signal.SIGKILL)
        _, alive = await asyncio.to_thread(psutil.wait_procs, family, 10)
        assert alive == []


async def test_32_uploads_at_once_are_accepted_without_growing_the_api(site: Site) -> None:
    content = camera_jpeg()
    padded = jpeg(4000, 3000, quality=93)
    assert 4_000_000 < len(padded) <= 5_242_880, len(padded)
    async with running_up(site) as up:
        await up.client.post("/api/v1/images", content=content)
        before = api_memory(up)
        peak = before

        async def watch() -> None:
            nonlocal peak
            while True:
                peak = max(peak, await asyncio.to_thread(api_memory, up))
                await asyncio.sleep(0.05)

        watching = asyncio.create_task(watch())
        try:
            answers = await asyncio.gather(
                *(
                    up.client.post("/api/v1/images", content=unique(padded, number), timeout=60)
                    for number in range(32)
                )
            )
        finally:
            watching.cancel()
        for answer in answers:
            assert answer.status_code == 201 or (
                answer.status_code == 503 and "retry-after" in answer.headers
            ), answer.text
        assert sum(answer.status_code == 201 for answer in answers) > 0
        assert peak - before < 64 * 1024 * 1024, f"grew by {(peak - before) >> 20} MB"


def api_memory(up: Up) -> int:
    """PSS of the API's processes in bytes, decoders apart."""
    server = up.find("api")
    processes = [server, *(c for c in server.children() if "decoder" not in " ".join(c.cmdline()))]
    return sum(process.memory_full_info().pss for process in processes)


async def test_settings_are_checked_before_anything_starts(site: Site) -> None:
    site.settings["HTTP_PORT"] = "http"
    status, output = await site.run("up")
    assert status == 1
    assert output.startswith("chitram: CHITRAM_HTTP_PORT='http' is not allowed")
    assert len(output.splitlines()) == 1
    assert not site.data_dir.exists()


async def test_the_api_says_why_it_cannot_start(site: Site) -> None:
    site.settings |= {"DATABASE_URL": "postgresql://127.0.0.1:9/x", "VALKEY_URL": "valkey://127.0.0.1:9"}
    site.settings |= {"STORAGE_URLS": "garbage", "SECRET_KEYS": "a-key-that-only-tests-ever-sign-with"}
    status, output = await site.run("api")
    assert status == 1
    assert output.startswith("chitram: CHITRAM_STORAGE_URLS")
    assert len(output.splitlines()) == 1


async def test_migrating_a_database_that_is_away_is_one_line(site: Site) -> None:
    site.settings["DATABASE_URL"] = "postgresql://me:secret@127.0.0.1:9/x"
    status, output = await site.run("migrate")
    assert status == 1
    assert output.startswith("chitram: The database at 127.0.0.1:9 does not answer")
    assert len(output.splitlines()) == 1


async def test_admin_needs_a_command(site: Site) -> None:
    status, output = await site.run("admin")
    assert status == 2
    assert "usage: chitram admin" in output


async def test_the_openapi_document_is_printed(site: Site) -> None:
    status, output = await site.run("openapi")
    assert status == 0
    committed = Path(__file__).parents[2] / "docs" / "openapi.json"
    assert json.loads(output) == json.loads(committed.read_text())


async def test_single_processes_need_servers(site: Site) -> None:
    for command in ("api", "worker"):
        status, output = await site.run(command)
        assert status == 1
        assert output == "chitram: CHITRAM_DATABASE_URL is empty. Set it, or use `chitram up`.\n"


async def test_healthcheck_tells_a_ready_api_from_none(site: Site) -> None:
    async with running_up(site) as up:
        site.settings["HTTP_PORT"] = str(httpx.URL(up.url).port)
        assert (await site.run("healthcheck"))[0] == 0
    assert (await site.run("healthcheck"))[0] == 1

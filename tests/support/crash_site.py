"""An API and a worker that can be made to kill themselves, and what has to hold once they are back."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import os
import secrets
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import UUID

import asyncpg
import httpx
from PIL import Image
from valkey.asyncio import Valkey

from chitram.images.domain.keys import blob_key, rendition_key
from chitram.images.domain.rendition import THUMBNAIL_SIDES, RenditionKind
from chitram.images.domain.work import CLEAR_RENDITIONS
from chitram.images.use_cases.reconcile_store import ReconcileCommand, ReconcileReport, ReconcileStore
from chitram.main.container import make_container
from chitram.platform.embedded.ports import ReservedPort
from chitram.platform.objects.registry import stores_from_settings
from chitram.platform.settings import PREFIX, Settings
from tests.support.accounts import Accounts
from tests.support.api import SECRET_KEY, UPLOAD, make_data_dir
from tests.support.proxy import Mode, Proxy
from tests.support.servers import own_valkey

ROOT = Path(__file__).parents[2]
READY_SECONDS = 30
QUIET_SECONDS = 60
POLL_SECONDS = 0.02
IMAGES = "/api/v1/images"


@dataclass
class Sent:
    """A file that was uploaded, by whom, and what was answered; None for no answer."""

    content: bytes
    body: dict[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def path(self) -> str:
        assert self.body is not None
        return f"{IMAGES}/{self.body['id']}"

    @property
    def may_delete(self) -> Mapping[str, str]:
        """Header fields of who may delete it."""
        assert self.body is not None
        token = self.body["delete_token"]
        return {"x-delete-token": token} if token else self.headers


@dataclass
class Role:
    """One of the two programs."""

    name: str
    site: CrashSite
    proxy: Proxy
    process: asyncio.subprocess.Process | None = None
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def armed(self) -> Path:
        return self.site.data_dir / f"crash-{self.name}"

    def arm(self, step: str, count: int = 1) -> None:
        self.armed.write_text(f"{step}#{count}")

    def lose(self, what: str, then: Mode, count: int = 1) -> None:
        """Have the answer to the COMMIT of something lost, and the way to the database be so after it."""
        self.proxy.after_loss = then
        self.arm(f"answer to COMMIT of {what} lost", count)

    async def lost(self) -> None:
        """Wait until that has happened."""
        waiting = self.armed.with_suffix(".waits")
        async with asyncio.timeout(READY_SECONDS):
            while not waiting.exists():
                await asyncio.sleep(POLL_SECONDS)
            self.proxy.mode = Mode.LOSE_COMMIT_ANSWER
            waiting.unlink()
            while self.proxy.mode is Mode.LOSE_COMMIT_ANSWER:
                await asyncio.sleep(POLL_SECONDS)

    @property
    def has_fired(self) -> bool:
        return not self.armed.exists()

    async def start(self) -> None:
        with (self.site.data_dir / f"{self.name}.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "tests.support.crashing",
                self.name,
                cwd=ROOT,
                env=self.environment,
                stdout=log,
                stderr=log,
            )

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(number)
            await self.process.wait()
        self.process = None


class CrashSite:
    """Both programs over servers of their own, and a client."""

    def __init__(
        self,
        database_url: str,
        proxies: tuple[Proxy, Proxy],
        valkey_url: str,
        data_dir: Path,
        storage_urls: str = "",
        settings: Mapping[str, object] = MappingProxyType({}),
    ) -> None:
        self.database_url = database_url
        self.valkey_url = valkey_url
        self.data_dir = data_dir
        self.storage_urls = storage_urls
        self.api = Role("api", self, proxies[0])
        self.worker = Role("worker", self, proxies[1])
        self._port = ReservedPort()
        kept = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        given = {
            "HTTP_PORT": self._port.number,
            "HTTP_WORKERS": 1,
            "DECODERS": 1,
            "VALKEY_URL": valkey_url,
            "DATA_DIR": data_dir,
            "SECRET_KEYS": SECRET_KEY,
            "UPLOADS_PER_MINUTE": 0,
            "LOGINS_PER_MINUTE": 0,
        } | ({"STORAGE_URLS": storage_urls} if storage_urls else {})
        given |= settings
        for role in (self.api, self.worker):
            mine = given | {"DATABASE_URL": role.proxy.url}
            role.environment = kept | {f"{PREFIX}{name}": str(value) for name, value in mine.items()}
        self.client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{self._port.number}", timeout=30)
        self._seen: set[UUID] = set()
        self._account: dict[str, str] = {}

    # Starting, stopping, waiting.

    async def ready(self) -> None:
        """Wait for the API to answer.

        Its server starts a process of it that died, but ends when that happens twice in 5.5 s; then
        it is started here, as `chitram up` or the container's engine would.
        """
        async with asyncio.timeout(READY_SECONDS):
            while True:
                with contextlib.suppress(httpx.TransportError):
                    if (await self.client.get("/health/live")).status_code == 200:
                        return
                assert self.api.process is not None
                if self.api.process.returncode is not None:
                    await self.api.start()
                await asyncio.sleep(POLL_SECONDS)

    async def fired(self, role: Role) -> None:
        """Wait until a role has killed itself."""
        async with asyncio.timeout(READY_SECONDS):
            while not role.has_fired:
                await asyncio.sleep(POLL_SECONDS)
            if role is self.worker:
                assert self.worker.process is not None
                assert await self.worker.process.wait() == -signal.SIGKILL

    async def worker_again(self) -> None:
        """Start the worker after its death, with all the time passed that its leases last."""
        await self.let_leases_end()
        await self.worker.start()

    def disarm(self) -> None:
        """Let nobody be killed any more."""
        for role in (self.api, self.worker):
            role.armed.unlink(missing_ok=True)
            role.proxy.mode = Mode.PASS

    async def let_leases_end(self) -> None:
        for table in ("outbox", "rounds", "idempotency_keys"):
            await self.execute(
                f"UPDATE {table} SET leased_until = now() - interval '1 second'"  # noqa: S608 - ours
                " WHERE leased_until IS NOT NULL"
            )

        # Likewise what is only done when nobody can be at it any more.
        await self.execute("UPDATE outbox SET run_after = now() WHERE kind = $1", CLEAR_RENDITIONS)

    async def lease_of_key_ends(self) -> str:
        """Let the time pass that an idempotency key is held by a process that died; say whether one was."""
        held = await self.value("SELECT count(*) FROM idempotency_keys WHERE image_id IS NULL")
        await self.let_leases_end()
        return "the key's lease had to end" if held else ""

    async def end_direct_uploads(self) -> None:
        """Let the time of all direct uploads be over, and clear up as the worker then does."""
        await self.execute("UPDATE uploads SET expires_at = now() - interval '1 hour'")
        await self.execute("UPDATE rounds SET next_at = now() WHERE name = 'uploads'")
        async with asyncio.timeout(QUIET_SECONDS):
            while await self.value("SELECT count(*) FROM uploads"):
                await asyncio.sleep(POLL_SECONDS)

    async def expire(self, sent: Sent) -> None:
        """Let the time of an image be over, and that of the round that removes it come."""
        assert sent.body is not None
        await self.execute("UPDATE images SET expires_at = now() WHERE id = $1", UUID(sent.body["id"]))
        await self.execute("UPDATE rounds SET next_at = now() WHERE name = 'expire'")

    async def expired(self, sent: Sent) -> None:
        """Wait until an image that expired is removed."""
        assert sent.body is not None
        async with asyncio.timeout(QUIET_SECONDS):
            while await self.value("SELECT count(*) FROM images WHERE id = $1", UUID(sent.body["id"])):
                await asyncio.sleep(POLL_SECONDS)

    async def lose_object(self, sent: Sent) -> None:
        """Remove the object of an image behind everybody's back."""
        assert sent.body is not None
        blob_id = await self.value("SELECT blob_id FROM images WHERE id = $1", UUID(sent.body["id"]))
        (self.data_dir / "objects" / blob_key(blob_id)).unlink()

    async def quiet(self, seconds: float = QUIET_SECONDS) -> None:
        """Wait until nothing is owed any more. Nothing may have been given up."""
        async with asyncio.timeout(seconds):
            while rows := await self.fetch("SELECT kind, dead_at, last_error FROM outbox"):
                assert not [row for row in rows if row["dead_at"]], rows
                await asyncio.sleep(POLL_SECONDS)

    # Requests.

    async def account(self) -> dict[str, str]:
        """Header fields of somebody with an account, always the same."""
        if not self._account:
            async with Accounts.of(self.database_url) as accounts:
                self._account = (await accounts.somebody()).headers
        return self._account

    async def upload(self, content: bytes, **headers: str) -> Sent:
        """Upload; whoever answers, answers with 201."""
        try:
            answer = await self.client.post(UPLOAD, files={"file": ("a", content)}, headers=headers)
        except httpx.TransportError:
            return Sent(content, headers=headers)
        assert answer.status_code == 201, answer.text
        return Sent(content, answer.json(), headers)

    async def delete(self, sent: Sent) -> bool:
        """Delete; False without an answer."""
        try:
            answer = await self.client.delete(sent.path, headers=sent.may_delete)
        except httpx.TransportError:
            return False
        assert answer.status_code == 204, answer.text
        return True

    # What has to hold.

    async def is_whole(self, sent: Sent, headers: Mapping[str, str] | None = None) -> None:
        """What was answered with 201 is there: metadata, bytes, thumbnails."""
        metadata = await self.client.get(sent.path, headers=headers)
        assert metadata.status_code == 200, metadata.text
        await self._is_whole(metadata.json())

    async def _is_whole(self, body: dict[str, Any]) -> None:
        assert body["processing"] == "ready", body
        stored = await self.client.get(body["url"])
        assert stored.status_code == 200
        assert hashlib.sha256(stored.content).hexdigest() == body["checksum"]
        assert len(stored.content) == body["file_size"]
        for kind, longest in THUMBNAIL_SIDES.items():
            thumbnail = await self.client.get(body["thumbnails"][kind.value]["url"])
            assert thumbnail.status_code == 200, thumbnail.text
            with Image.open(io.BytesIO(thumbnail.content)) as picture:
                picture.load()
                scale = min(1, longest / max(body["width"], body["height"]))
                expected = [max(1, side * scale) for side in (body["width"], body["height"])]
                assert [round(side) for side in expected] == [*picture.size] or all(
                    abs(side - wanted) <= 1 for side, wanted in zip(picture.size, expected, strict=True)
                ), (picture.size, expected)

    async def is_gone(self, sent: Sent) -> None:
        """What was answered with 204 has left no trace."""
        assert sent.body is not None
        for path in (
            sent.path,
            f"{sent.path}/file",
            *(f"{sent.path}/thumbnail?size={size}" for size in ("small", "medium", "large")),
            f"{sent.path}/optimised",
        ):
            for method in ("GET", "HEAD") if path != sent.path else ("GET",):
                answer = await self.client.request(method, path)
                assert answer.status_code == 404, (method, path)
        for table, column in (("images", "id"), ("idempotency_keys", "image_id")):
            found = f"SELECT count(*) FROM {table} WHERE {column} = $1"  # noqa: S608 - ours
            assert not await self.value(found, UUID(sent.body["id"]))
        valkey = Valkey.from_url(self.valkey_url)
        try:
            keys = [key async for key in valkey.scan_iter(f"*{sent.body['id']}*")]
            # A value of the metadata cache begins with V; tombstones and misses may stay.
            assert not [key for key in keys if (await valkey.get(key) or b"").startswith(b"V")], keys
        finally:
            await valkey.aclose()

    async def is_consistent(self, *, orphans: bool = False) -> str:
        """Rows, objects, counters and leftovers agree; says what reconcile had to do for that.

        Args:
            orphans: whether the kill may have left an object that no row knows, or half of one.
        """
        found = await self.reconcile(apply=True)
        removed = found.removed + found.unfinished
        assert (found.strays, found.missing) == (0, [])
        assert orphans or not removed, found
        again = await self.reconcile(apply=False)
        assert (again.orphans, again.strays, again.missing) == (0, 0, [])
        assert await self.objects() == await self._expected_objects()
        assert not [*(self.data_dir / "spool").iterdir()]
        unused = "SELECT count(*) FROM blobs b WHERE NOT EXISTS (SELECT FROM images WHERE blob_id = b.id)"
        assert not await self.value(unused)
        assert not await self.value("SELECT count(*) FROM blobs WHERE state <> 'live'")
        wrong = await self.fetch(
            "SELECT u.id, used_images, used_bytes, count(i.id), coalesce(sum(b.byte_size), 0)"
            " FROM users u LEFT JOIN images i ON i.owner_id = u.id LEFT JOIN blobs b ON b.id = i.blob_id"
            " GROUP BY u.id HAVING (used_images, used_bytes) <> (count(i.id), coalesce(sum(b.byte_size), 0))"
        )
        assert not wrong
        for row in await self.fetch("SELECT id FROM images"):
            if row["id"] not in self._seen:
                metadata = await self.client.get(f"{IMAGES}/{row['id']}")
                assert metadata.status_code == 200, metadata.text
                await self._is_whole(metadata.json())
                self._seen.add(row["id"])
        return f"reconcile removed {removed}" if removed else ""

    async def reconcile(self, *, apply: bool) -> ReconcileReport:
        settings = Settings(
            database_url=self.database_url, data_dir=str(self.data_dir), storage_urls=self.storage_urls
        )
        container = make_container(settings)
        try:
            reconcile = await container.get(ReconcileStore)
            return await reconcile(ReconcileCommand(timedelta(0), apply=apply, force=True))
        finally:
            await container.close()

    async def objects(self) -> set[str]:
        if self.storage_urls:
            stores = stores_from_settings(Settings(storage_urls=self.storage_urls))
            try:
                return {found.key for store in stores async for found in store.list("")}
            finally:
                await stores.aclose()
        root = self.data_dir / "objects"
        return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}

    async def _expected_objects(self) -> set[str]:
        blobs = {blob_key(row["id"]) for row in await self.fetch("SELECT id FROM blobs")}
        renditions = await self.fetch("SELECT blob_id, kind, recipe FROM renditions")
        return blobs | {
            rendition_key(row["blob_id"], RenditionKind(row["kind"]), row["recipe"]) for row in renditions
        }

    # The database.

    async def fetch(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        connection = await asyncpg.connect(self.database_url)
        try:
            rows: list[asyncpg.Record] = await connection.fetch(statement, *arguments)
            return rows
        finally:
            await connection.close()

    async def value(self, statement: str, *arguments: object) -> Any:
        rows = await self.fetch(statement, *arguments)
        return rows[0][0] if rows else None

    async def image_ids(self) -> set[UUID]:
        return {row["id"] for row in await self.fetch("SELECT id FROM images")}

    async def execute_script(self, statements: str) -> None:
        connection = await asyncpg.connect(self.database_url)
        try:
            await connection.execute(statements)
        finally:
            await connection.close()

    async def execute(self, statement: str, *arguments: object) -> None:
        await self.fetch(statement, *arguments)


@contextlib.asynccontextmanager
async def crash_site(
    database_url: str, storage_urls: str = "", **settings: object
) -> AsyncIterator[CrashSite]:
    """Run API and worker over a database, and over a Valkey and a data directory of their own."""
    data_dir = make_data_dir()
    try:
        with own_valkey() as valkey:
            async with Proxy(database_url) as for_api, Proxy(database_url) as for_worker:
                site = CrashSite(
                    database_url, (for_api, for_worker), valkey.url, data_dir, storage_urls, settings
                )
                try:
                    await asyncio.gather(site.api.start(), site.worker.start())
                    await site.ready()
                    yield site
                finally:
                    await asyncio.gather(site.api.stop(), site.worker.stop())
                    await site.client.aclose()
    finally:
        shutil.rmtree(data_dir, ignore_errors=True)


def halves(content: bytes) -> Iterable[bytes]:
    """A body in two parts."""
    middle = len(content) // 2
    yield content[:middle]
    yield content[middle:]


def new_key() -> str:
    """An idempotency key."""
    return secrets.token_urlsafe(32)

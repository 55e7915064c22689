"""Uploads and deletions of a few contents racing each other, over several processes."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import re
import statistics
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import httpx
import pytest
from valkey.asyncio import Valkey

from tests.support.accounts import Account, Accounts
from tests.support.crash_site import IMAGES, CrashSite, Role, Sent, crash_site, new_key
from tests.support.database import NewUrl
from tests.support.photos import jpeg, unique

CONTENTS = 5
OPERATIONS = 500
AT_ONCE = 24
READERS = 4
# Live images that there are about half of: a content loses its last one again and again, and the next
# upload makes a new generation of it.
FEW = 10
RANDOM = random.SystemRandom()

GENERATIONS = """
CREATE TABLE generations (sha256 bytea);
CREATE FUNCTION remember_generation() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN INSERT INTO generations VALUES (NEW.sha256); RETURN NEW; END $$;
CREATE TRIGGER generation AFTER INSERT ON blobs FOR EACH ROW EXECUTE FUNCTION remember_generation();
"""


@dataclass
class Live:
    """An image that is there, and what deletes it."""

    body: dict[str, Any]
    headers: dict[str, str]

    @property
    def path(self) -> str:
        return f"{IMAGES}/{self.body['id']}"


@dataclass
class Race:
    """What was done, and what came of it."""

    site: CrashSite
    contents: list[bytes]
    accounts: list[Account]
    live: list[Live] = field(default_factory=list)
    gone: list[Live] = field(default_factory=list)
    begun: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    read: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    over: bool = False

    async def work(self, client: httpx.AsyncClient) -> None:
        """Upload and delete until there were enough operations."""
        while self.begun < OPERATIONS:
            self.begun += 1
            if RANDOM.random() * FEW < len(self.live):
                await self._delete(client, self.live.pop(RANDOM.randrange(len(self.live))))
            else:
                await self._upload(client)

    async def _upload(self, client: httpx.AsyncClient) -> None:
        headers = RANDOM.choice([{}, *(account.headers for account in self.accounts)])
        answer = await self._ask(
            client,
            "POST",
            IMAGES,
            content=RANDOM.choice(self.contents),
            headers=headers | {"idempotency-key": new_key()},
        )
        if answer.status_code == 201:
            body = answer.json()
            token = {"x-delete-token": body["delete_token"]} if body["delete_token"] else {}
            self.live.append(Live(body, headers | token))

    async def _delete(self, client: httpx.AsyncClient, image: Live) -> None:
        answer = await self._ask(client, "DELETE", image.path, headers=image.headers)
        if answer.status_code in {204, 404}:
            self.gone.append(image)

    async def _ask(self, client: httpx.AsyncClient, method: str, path: str, **options: Any) -> httpx.Response:
        """Ask until there is an answer that says what became of it."""
        told = ""
        while True:
            began = time.monotonic()
            answer = await client.request(method, path, **options)
            self.seconds.append(time.monotonic() - began)
            code = answer.json()["error"]["code"] if answer.is_error else ""
            # It was done, and the first answer could not know.
            again = " after 503" if told and answer.status_code == 404 else ""
            self.answers[f"{method} {answer.status_code} {code}{again}".rstrip()] += 1
            if answer.status_code != 503:
                return answer
            told = code

    async def read_live(self) -> None:
        """Download images that are live all the while."""
        while not self.over:
            await asyncio.sleep(0.01)
            if not self.live:
                continue
            image = RANDOM.choice(self.live)
            answer = await self.site.client.get(image.body["url"])
            if image in self.live:
                right = hashlib.sha256(answer.content).hexdigest() == image.body["checksum"]
                self.read[f"{answer.status_code} {'right' if right else 'WRONG'}"] += 1


@contextlib.asynccontextmanager
async def clients_of(site: CrashSite, count: int) -> AsyncIterator[list[httpx.AsyncClient]]:
    """So many connections, which the API's processes share between them."""
    url = str(site.client.base_url)
    async with contextlib.AsyncExitStack() as stack:
        made = [httpx.AsyncClient(base_url=url, timeout=60, verify=False) for _ in range(count)]  # noqa: S501
        yield [await stack.enter_async_context(client) for client in made]


async def traces(site: CrashSite, gone: list[Live]) -> list[str]:
    """What answers with a deleted image, asked over many connections, and what is cached of it."""
    found = []

    async def look(client: httpx.AsyncClient, images: Sequence[Live]) -> None:
        for image in images:
            for path in ("", "/file", "/thumbnail", "/thumbnail?size=large", "/optimised"):
                answer = await client.get(image.path + path, headers=image.headers)
                if answer.status_code != 404:
                    found.append(f"{answer.status_code} {image.path}{path}")

    async with clients_of(site, 8) as clients:
        await asyncio.gather(*(look(client, gone[place::8]) for place, client in enumerate(clients)))
    ids = {image.body["id"] for image in gone}
    valkey = Valkey.from_url(site.valkey_url)
    try:
        async for key in valkey.scan_iter("*"):
            if any(part in ids for part in key.decode().split(":")):
                kind = await valkey.type(key)
                if kind == b"string" and (await valkey.get(key) or b"").startswith(b"V"):
                    found.append(key.decode())
    finally:
        await valkey.aclose()
    return found


@pytest.mark.long
async def test_what_is_live_is_whole_and_what_is_gone_is_gone(
    new_url: NewUrl, capsys: pytest.CaptureFixture[str]
) -> None:
    contents = [unique(jpeg(800, 600), number) for number in range(1, CONTENTS + 1)]
    async with crash_site(await new_url(), HTTP_WORKERS=2) as site:
        await site.execute_script(GENERATIONS)
        other = Role("worker", site, site.worker.proxy, environment=site.worker.environment)
        await other.start()
        async with Accounts.of(site.database_url) as accounts:
            race = Race(site, contents, [await accounts.somebody() for _ in range(2)])
        began = time.monotonic()
        readers = [asyncio.create_task(race.read_live()) for _ in range(READERS)]
        async with clients_of(site, AT_ONCE) as clients:
            await asyncio.gather(*map(race.work, clients))
        raced = time.monotonic() - began
        median, worst = statistics.median(race.seconds), max(race.seconds)
        race.over = True
        await asyncio.gather(*readers)
        await site.quiet()
        quiet = time.monotonic() - began - raced
        left = await traces(site, race.gone)
        for image in race.live:
            await site.is_whole(Sent(b"", image.body), image.headers)
        counts = await site.fetch(
            "SELECT b.sha256, count(*) AS images FROM images i JOIN blobs b ON b.id = i.blob_id GROUP BY 1"
        )
        expected = Counter(image.body["checksum"] for image in race.live)
        generations = await site.value("SELECT count(*) FROM generations")
        note = await site.is_consistent()
        await other.stop()
        logs = "".join((site.data_dir / f"{name}.log").read_text() for name in ("api", "worker"))
    trouble = Counter(re.findall(r"(?:database unreachable|unexpected error|job failed).*?cause=\w+", logs))
    with capsys.disabled():
        sys.stdout.write(
            f"\n{OPERATIONS} operations on {CONTENTS} contents, {AT_ONCE} at a time, in {raced:.1f} s; quiet "
            f"{quiet:.1f} s later; answers took {median:.2f} s in the median, {worst:.2f} s at worst\n"
            f"answers: {dict(race.answers)}\n"
            f"downloads of live images meanwhile: {dict(race.read)}\n"
            f"generations of blobs made: {generations}; live images in the end: {len(race.live)} over "
            f"{len(counts)} blobs; deleted: {len(race.gone)}, of which something is left: {len(left)}\n"
            f"trouble in the logs: {dict(trouble)}\n"
            f"orphans: {note or 'none'}; images for each blob as answered: "
            f"{ {row['sha256'].hex(): row['images'] for row in counts} == dict(expected) }\n"
        )
    assert {answer.removesuffix(" DATABASE_UNAVAILABLE") for answer in race.answers} <= {
        "POST 201",
        "POST 503",
        "DELETE 204",
        "DELETE 503",
        "DELETE 404 IMAGE_NOT_FOUND after 503",
    }
    assert set(race.read) == {"200 right"}
    assert left == []
    assert note == ""
    assert {row["sha256"].hex(): row["images"] for row in counts} == dict(expected)
    assert generations > CONTENTS
    assert {UUID(image.body["id"]) for image in race.live} == await site.image_ids()

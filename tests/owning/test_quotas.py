"""Quotas under many uploads at once, over two API processes."""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from tests.support.accounts import Account, Accounts
from tests.support.api import UPLOAD, make_data_dir
from tests.support.instances import Instance, instances
from tests.support.owning import IMAGES
from tests.support.photos import jpeg, unique
from tests.support.servers import drop_database, new_database

UPLOADS = 50


@dataclass
class Pair:
    """Two processes over one database and one store, and the accounts in it."""

    processes: list[Instance]
    accounts: Accounts
    store: Path

    def client(self, number: int) -> httpx.AsyncClient:
        """That of the one process or of the other."""
        return self.processes[number % len(self.processes)].api.client

    async def size_of(self, content: bytes) -> int:
        """Bytes of a photo as it is stored."""
        answer = await self.upload(await self.accounts.somebody(), 0, content)
        size: int = answer.json()["file_size"]
        return size

    async def upload(self, account: Account, number: int, content: bytes) -> httpx.Response:
        return await self.client(number).post(
            UPLOAD, files={"file": ("a.jpg", content)}, headers=account.headers
        )

    async def delete(self, account: Account, number: int, image_id: str) -> None:
        answer = await self.client(number).delete(f"{IMAGES}/{image_id}", headers=account.headers)
        assert answer.status_code == 204


@dataclass
class Watched:
    """An account of which every answer is compared with what it has at that moment.

    What is counted is always what is there, and never more than is allowed; a refusal says truly
    that there was no room for so much.
    """

    pair: Pair
    account: Account
    quota_images: int = 0
    quota_bytes: int = 0
    _asking: asyncio.Lock = field(default_factory=asyncio.Lock)

    @classmethod
    async def new(cls, pair: Pair, quota_images: int = 0, quota_bytes: int = 0) -> Watched:
        somebody = await pair.accounts.somebody(quota_images=quota_images, quota_bytes=quota_bytes)
        return cls(pair, somebody, quota_images, quota_bytes)

    async def check(self) -> tuple[int, int]:
        """Images and bytes, as counted and as they are in one moment."""
        connection: asyncpg.Connection = self.pair.accounts.connection
        async with self._asking:
            row = await connection.fetchrow(
                """
                SELECT used_images, used_bytes, count(b.id) AS images,
                       coalesce(sum(b.byte_size), 0)::bigint AS bytes
                FROM users u LEFT JOIN images i ON i.owner_id = u.id LEFT JOIN blobs b ON b.id = i.blob_id
                WHERE u.id = $1 GROUP BY u.id
                """,
                self.account.id,
            )
        kept = (row["images"], row["bytes"])
        assert (row["used_images"], row["used_bytes"]) == kept
        assert not self.quota_images or kept[0] <= self.quota_images
        assert not self.quota_bytes or kept[1] <= self.quota_bytes
        return kept

    async def upload(self, number: int, content: bytes, size: int) -> dict[str, Any] | None:
        """Upload what takes `size` bytes; None when there was no room."""
        answer = await self.pair.upload(self.account, number, content)
        await self.check()
        if answer.status_code == 201:
            body: dict[str, Any] = answer.json()
            assert body["file_size"] == size
            return body
        self.refused(answer.status_code, answer.json()["error"], size)
        return None

    def refused(self, status: int, error: dict[str, Any], size: int) -> None:
        """A refusal is for the quota, and there really was no room."""
        assert (status, error["code"]) == (403, "QUOTA_EXCEEDED")
        used = error["details"]
        assert any(
            (
                self.quota_images and used["used_images"] + 1 > self.quota_images,
                self.quota_bytes and used["used_bytes"] + size > self.quota_bytes,
            )
        )

    async def upload_all(self, contents: Sequence[bytes], size: int) -> list[dict[str, Any]]:
        """Upload everything at once, half of it to each process; what was accepted."""
        asked: list[Awaitable[dict[str, Any] | None]] = [
            self.upload(number, content, size) for number, content in enumerate(contents)
        ]
        return [body for body in await asyncio.gather(*asked) if body]


@pytest.fixture(scope="module")
async def pair(postgres_url: str, migrated_url: str, valkey_url: str) -> AsyncIterator[Pair]:
    database_url, store = await new_database(postgres_url, template=migrated_url), make_data_dir()
    try:
        async with (
            instances(database_url, valkey_url, 2, STORAGE_URLS=f"shared=file://{store}") as made,
            Accounts.of(database_url) as accounts,
        ):
            yield Pair(made, accounts, store)
    finally:
        shutil.rmtree(store)
        await drop_database(database_url)


def photos(count: int, first: int = 0) -> list[bytes]:
    """Different photos that take equally many bytes, also as they are stored."""
    return [unique(jpeg(64, 48), first + number) for number in range(count)]


@pytest.mark.parametrize("spare", [0, 1], ids=["to-the-last-byte", "one-byte-short"])
async def test_as_many_images_are_accepted_as_there_is_room_for(pair: Pair, spare: int) -> None:
    contents = photos(UPLOADS, first=1000 * spare)
    size = await pair.size_of(contents[0])
    watched = await Watched.new(pair, quota_bytes=21 * size - spare)
    made = await watched.upload_all(contents, size)
    assert len(made) == 21 - spare
    assert await watched.check() == (len(made), len(made) * size)


@pytest.mark.parametrize("limit", ["bytes", "images"])
async def test_equal_images_count_as_others_do(pair: Pair, limit: str) -> None:
    content = jpeg(65, 48)
    size = await pair.size_of(content)
    quotas = {"quota_bytes": 14 * size} if limit == "bytes" else {"quota_images": 14}
    watched = await Watched.new(pair, **quotas)
    made = await watched.upload_all([content] * UPLOADS, size)
    assert len(made) == 14
    assert len({body["checksum"] for body in made}) == 1


async def test_different_sizes_never_exceed_a_quota_together(pair: Pair) -> None:
    contents = [jpeg(64 + 8 * number, 48) for number in range(20)]
    sizes = [await pair.size_of(content) for content in contents]
    assert len(set(sizes)) > 10
    watched = await Watched.new(pair, quota_bytes=sum(sizes) // 2)
    made = await asyncio.gather(
        *(
            watched.upload(number, content, size)
            for number, (content, size) in enumerate(zip(contents, sizes, strict=True))
        )
    )
    _, used = await watched.check()
    refused = [size for body, size in zip(made, sizes, strict=True) if body is None]
    assert refused
    assert used + min(refused) > watched.quota_bytes


@pytest.mark.parametrize("same", [False, True], ids=["different", "same"])
async def test_room_that_a_deletion_makes_is_used_again(pair: Pair, *, same: bool) -> None:
    """Everything that is accepted is deleted at once, while others still come."""
    contents = photos(UPLOADS, first=5000)
    if same:
        contents = [jpeg(66, 48)] * UPLOADS
    size = await pair.size_of(contents[0])
    watched = await Watched.new(pair, quota_bytes=5 * size, quota_images=5)

    async def come_and_go(number: int, content: bytes) -> bool:
        body = await watched.upload(number, content, size)
        if body is None:
            return False
        # By the other process than made it.
        await pair.delete(watched.account, number + 1, body["id"])
        await watched.check()
        return True

    came = await asyncio.gather(*(come_and_go(*one) for one in enumerate(contents)))
    assert sum(came) >= 5
    assert await watched.check() == (0, 0)
    assert len(await watched.upload_all(contents[:10], size)) == 5


async def test_the_files_of_a_batch_count_one_by_one(pair: Pair) -> None:
    contents = photos(30, first=9000)
    size = await pair.size_of(contents[0])
    watched = await Watched.new(pair, quota_bytes=13 * size)

    async def batch(number: int) -> Counter[int]:
        files = [("files", ("a.jpg", content)) for content in contents[10 * number :][:10]]
        answer = await pair.client(number).post(
            f"{IMAGES}/batch", files=files, headers=watched.account.headers
        )
        results = answer.json()["results"]
        for result in results:
            if result["status"] != 201:
                watched.refused(result["status"], result["error"], size)
        await watched.check()
        return Counter(result["status"] for result in results)

    statuses = sum(await asyncio.gather(*map(batch, range(3))), Counter[int]())
    assert statuses == {201: 13, 403: 17}
    assert await watched.check() == (13, 13 * size)


async def test_what_was_refused_is_nowhere(pair: Pair) -> None:
    contents = photos(10, first=20_000)
    size = await pair.size_of(contents[0])
    api = pair.processes[0].api
    blobs = await api.rows("blobs")
    watched = await Watched.new(pair, quota_images=3)
    made = await watched.upload_all(contents[1:], size)
    assert len(made) == 3
    assert await api.rows("blobs") == blobs + 3
    catalogue = {str(row["id"]) for row in await pair.accounts.connection.fetch("SELECT id FROM blobs")}
    assert {path.name for path in pair.store.rglob("*") if path.is_file()} == catalogue

"""API keys over HTTP: made, listed, used, removed."""

from __future__ import annotations

import asyncio
import hashlib
import re
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest

from chitram.accounts.adapters.postgres.key_uses import PostgresKeyUses
from chitram.accounts.domain.api_key import MOST_KEYS, clean_name, hash_of
from chitram.accounts.domain.principal import Scope
from chitram.kernel.errors import DatabaseUnavailable
from chitram.platform.database import Reader, make_reader
from chitram.platform.settings import Settings
from tests.support.credentials import People, SignedIn, bearer
from tests.support.database import Database
from tests.support.in_process import in_process
from tests.support.proxy import Mode, Proxy

PATH = "/api/v1/auth/api-keys"
READS = {"name": "reads", "scopes": ["images:read"]}


@pytest.fixture
async def owner(people: People) -> SignedIn:
    return await SignedIn.new(people)


@pytest.fixture
async def admin(people: People) -> SignedIn:
    return await SignedIn.new(people, is_admin=True)


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


async def made(client: httpx.AsyncClient, owner: SignedIn, **fields: object) -> dict[str, Any]:
    answer = await client.post(PATH, json={**READS, **fields}, headers=owner.headers)
    assert answer.status_code == 201, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def test_a_key_is_shown_once_and_only_its_hash_is_kept(
    client: httpx.AsyncClient, owner: SignedIn, database: Database
) -> None:
    body = await made(client, owner, name="  nightly\tbackup ", expires_in=60)
    key = body.pop("key")
    assert re.fullmatch(r"chk_[A-Za-z0-9_-]{43}", key)
    assert body["hint"] == key[:10]
    created, expires = (datetime.fromisoformat(body[name]) for name in ("created_at", "expires_at"))
    assert expires - created == timedelta(seconds=60)
    assert (body["name"], body["scopes"], body["last_used_at"]) == ("nightly backup", ["images:read"], None)
    listed = (await client.get(PATH, headers=owner.headers)).json()
    assert listed == {"items": [body], "next_cursor": None}
    row = await database.pool.fetchrow("SELECT * FROM api_keys WHERE user_id = $1", owner.user_id)
    assert row["key_hash"] == hashlib.sha256(key.encode()).digest()
    assert not any(key in str(value) for value in row.values())


async def test_keys_are_listed_page_by_page_the_newest_first_and_nobody_elses(
    client: httpx.AsyncClient, owner: SignedIn, people: People
) -> None:
    other = await SignedIn.new(people)
    await made(client, other)
    wanted = [(await made(client, owner, name=f"key {number}"))["name"] for number in range(5)][::-1]
    names, cursor, pages = [], None, 0
    while pages == 0 or cursor:
        params = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
        page = (await client.get(PATH, params=params, headers=owner.headers)).json()
        names += [item["name"] for item in page["items"]]
        cursor, pages = page["next_cursor"], pages + 1
        if cursor:
            stolen = await client.get(PATH, params={"cursor": cursor}, headers=other.headers)
            assert code(stolen) == (400, "INVALID_REQUEST")
    assert (names, pages) == (wanted, 3)


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "cursor=", "cursor=%00", "cursor=A"])
async def test_a_bad_page_is_refused(client: httpx.AsyncClient, owner: SignedIn, query: str) -> None:
    answer = await client.get(f"{PATH}?{query}", headers=owner.headers)
    assert code(answer) == (400, "INVALID_REQUEST")


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": "\u202e \n"},
        {"name": "x" * 101},
        {"name": "x" * 5000},
        {"name": None},
        {"scopes": []},
        {"scopes": ["images:delete"]},
        {"scopes": "images:read"},
        {"expires_in": 0},
        {"expires_in": 10**10},
        {"expires_in": 1.5},
        {"user_id": "somebody"},
    ],
    ids=lambda wrong: str(next(iter(wrong.items())))[:30].encode("unicode_escape").decode(),
)
async def test_a_bad_wish_is_refused(
    client: httpx.AsyncClient, owner: SignedIn, wrong: dict[str, object]
) -> None:
    answer = await client.post(PATH, json={**READS, **wrong}, headers=owner.headers)
    assert code(answer) == (400, "INVALID_REQUEST")


async def test_names_of_a_hundred_characters_in_any_script_are_kept(
    client: httpx.AsyncClient, owner: SignedIn
) -> None:
    assert (await made(client, owner, name="చి" * 50))["name"] == "చి" * 50


def test_what_controls_the_display_does_not_come_into_a_name() -> None:
    assert clean_name("a\u202egpj.exe\x00\ud800\u2028b\r\nc") == "agpj.exe b c"


async def test_a_key_lets_in_as_far_as_its_scopes_go(client: httpx.AsyncClient, owner: SignedIn) -> None:
    key = (await made(client, owner))["key"]
    for headers in (bearer(key), {"x-api-key": key}, {"x-api-key": key, **bearer(key)}):
        answer = await client.get("/api/v1/images/00000000-0000-7000-8000-000000000000", headers=headers)
        assert code(answer) == (404, "IMAGE_NOT_FOUND")


async def test_a_key_can_neither_make_nor_see_nor_remove_keys(
    client: httpx.AsyncClient, admin: SignedIn
) -> None:
    body = await made(client, admin, scopes=[scope.value for scope in Scope])
    headers = bearer(body["key"])
    for answer in (
        await client.post(PATH, json=READS, headers=headers),
        await client.get(PATH, headers=headers),
        await client.delete(f"{PATH}/{body['id']}", headers=headers),
    ):
        assert code(answer) == (403, "FORBIDDEN")
        assert answer.json()["error"]["details"] == {"needs": "session"}


async def test_only_administrators_make_keys_for_administrators(
    client: httpx.AsyncClient, owner: SignedIn, admin: SignedIn, people: People
) -> None:
    wish = {"name": "all", "scopes": ["admin", "images:read"]}
    assert code(await client.post(PATH, json=wish, headers=owner.headers)) == (403, "FORBIDDEN")
    assert (await client.post(PATH, json=wish, headers=admin.headers)).status_code == 201
    # What is remembered of the session may be older than the account.
    await people.change(admin.user_id, is_admin=False)
    assert code(await client.post(PATH, json=wish, headers=admin.headers)) == (403, "FORBIDDEN")


async def test_an_account_has_so_many_keys_and_no_more(
    client: httpx.AsyncClient, owner: SignedIn, people: People
) -> None:
    for _ in range(MOST_KEYS - 2):
        await people.key(owner.user_id, Scope.READ)
    answers = await asyncio.gather(*(client.post(PATH, json=READS, headers=owner.headers) for _ in range(5)))
    assert sorted(answer.status_code for answer in answers) == [201, 201, 409, 409, 409]
    full = await client.post(PATH, json=READS, headers=owner.headers)
    assert code(full) == (409, "TOO_MANY_API_KEYS")
    assert full.json()["error"]["details"] == {"max_keys": MOST_KEYS}


@pytest.mark.parametrize("mode", [Mode.PASS, Mode.CUT, Mode.HANG])
async def test_a_removed_key_is_refused_at_once(
    client: httpx.AsyncClient, owner: SignedIn, proxy: Proxy, mode: Mode
) -> None:
    body = await made(client, owner)
    headers = bearer(body["key"])
    assert (await client.get("/api/v1/images/x", headers=headers)).status_code == 404
    proxy.mode = mode
    if mode is Mode.CUT:
        proxy.cut_all()
    assert (await client.delete(f"{PATH}/{body['id']}", headers=owner.headers)).status_code == 204
    assert code(await client.get("/api/v1/images/x", headers=headers)) == (401, "INVALID_TOKEN")
    assert code(await client.delete(f"{PATH}/{body['id']}", headers=owner.headers)) == (
        404,
        "API_KEY_NOT_FOUND",
    )


async def test_nobody_removes_the_key_of_another(
    client: httpx.AsyncClient, owner: SignedIn, people: People
) -> None:
    body = await made(client, owner)
    other = await SignedIn.new(people)
    for key_id in (body["id"], str(uuid4()), "x", "%00"):
        answer = await client.delete(f"{PATH}/{key_id}", headers=other.headers)
        assert code(answer) == (404, "API_KEY_NOT_FOUND")
    assert (await client.get("/api/v1/images/x", headers=bearer(body["key"]))).status_code == 404


async def test_an_expired_key_says_so(client: httpx.AsyncClient, owner: SignedIn, people: People) -> None:
    key = await people.key(owner.user_id, Scope.READ, life=timedelta(seconds=0.3))
    assert code(await client.get("/api/v1/images/x", headers=bearer(key))) == (404, "IMAGE_NOT_FOUND")
    async with asyncio.timeout(10):
        while (answer := await client.get("/api/v1/images/x", headers=bearer(key))).status_code == 404:
            await asyncio.sleep(0.02)
    assert code(answer) == (401, "TOKEN_EXPIRED")


async def test_the_key_of_a_deactivated_account_is_refused(
    client: httpx.AsyncClient, owner: SignedIn, people: People
) -> None:
    key = await people.key(owner.user_id, Scope.READ)
    await people.change(owner.user_id, is_active=False)
    assert code(await client.get("/api/v1/images/x", headers=bearer(key))) == (401, "INVALID_TOKEN")


class Uses:
    """What one process notes of uses, and the row that it writes."""

    def __init__(self, pool: asyncpg.Pool, key_id: UUID) -> None:
        self.pool = pool
        self.key_id = key_id
        self.noted = PostgresKeyUses(Reader(pool))

    async def written(self) -> datetime | None:
        at: datetime | None = await self.pool.fetchval(
            "SELECT last_used_at FROM api_keys WHERE id = $1", self.key_id
        )
        return at

    async def xmin(self) -> int:
        return int(await self.pool.fetchval("SELECT xmin::text FROM api_keys WHERE id = $1", self.key_id))


@pytest.fixture
async def uses(people: People, database: Database, owner: SignedIn) -> Uses:
    key = await people.key(owner.user_id, Scope.READ)
    key_id = await database.pool.fetchval(
        "UPDATE api_keys SET created_at = now() - interval '1 day' WHERE key_hash = $1 RETURNING id",
        hash_of(key),
    )
    return Uses(database.pool, key_id)


NOON = datetime(2126, 11, 22, 12, 0, 7, 123, tzinfo=UTC)


async def test_the_last_use_is_written_to_the_minute_and_once_a_minute(uses: Uses) -> None:
    other = Uses(uses.pool, uses.key_id)
    for process in (uses, other, uses):
        process.noted.note(uses.key_id, NOON)
        process.noted.note(uses.key_id, NOON + timedelta(seconds=50))
        await process.noted.flush()
    assert await uses.written() == NOON.replace(second=0, microsecond=0)
    before = await uses.xmin()
    await other.noted.flush()
    other.noted.note(uses.key_id, NOON - timedelta(minutes=5))
    await other.noted.flush()
    assert await uses.xmin() == before
    uses.noted.note(uses.key_id, NOON + timedelta(minutes=1))
    await uses.noted.flush()
    assert await uses.written() == NOON.replace(minute=1, second=0, microsecond=0)


async def test_a_use_that_could_not_be_written_is_written_later(uses: Uses, database: Database) -> None:
    async with Proxy(database.url) as proxy:
        pool = await make_reader(Settings(database_url=proxy.url))
        noted = PostgresKeyUses(Reader(pool))
        proxy.mode = Mode.CUT
        noted.note(uses.key_id, NOON)
        with pytest.raises(DatabaseUnavailable):
            await noted.flush()
        proxy.mode = Mode.PASS
        await noted.flush()
        pool.terminate()
    assert await uses.written() == NOON.replace(second=0, microsecond=0)


async def test_a_use_is_never_before_the_making(uses: Uses) -> None:
    await uses.pool.execute("UPDATE api_keys SET created_at = $1 WHERE id = $2", NOON, uses.key_id)
    uses.noted.note(uses.key_id, NOON)
    await uses.noted.flush()
    assert await uses.written() == NOON


async def test_a_used_key_says_when_also_after_the_process_has_ended(
    settings: Settings, owner: SignedIn, database: Database
) -> None:
    async with in_process(settings) as client:
        body = await made(client, owner)
        await client.get("/api/v1/images/x", headers=bearer(body["key"]))
    key_id = UUID(body["id"])
    used_at = await database.pool.fetchval("SELECT last_used_at FROM api_keys WHERE id = $1", key_id)
    assert used_at is not None

"""Registering, signing in, refreshing and signing out, as clients see it."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import sys
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest

from chitram.platform.settings import PREFIX
from tests.api.conftest import StartApi
from tests.support.api import Api, log_of

pytestmark = pytest.mark.only_over("local", reason="accounts do not depend on where images are kept")

AUTH = "/api/v1/auth"
PASSWORD = "four random words, that is"
NO_ADDRESSES = {
    "empty": "",
    "no-at": "nobody",
    "no-local-part": "@example.com",
    "no-dot": "a@b",
    "local-host": "a@localhost",
    "space": "a b@example.com",
    "null": "a\u0000@example.com",
    "long": "a" * 250 + "@example.com",
    "very-long": "a@" + "b" * 10_000 + ".com",
    "display-name": "A <a@example.com>",
    "address-literal": "a@[127.0.0.1]",
}
NO_BODIES = {
    "empty": b"",
    "no-fields": b"{}",
    "list": b"[]",
    "null": b"null",
    "cut": b"{",
    "no-password": b'{"email": "a@example.com"}',
    "numbers": b'{"email": 1, "password": 2, "refresh_token": 3}',
    "surrogate": b'{"email": "a@example.com", "password": "\\ud800aaaaaaaa", "refresh_token": "\\ud800a"}',
    "no-utf-8": b"\xff\xfe",
    "deep": b"[" * 10_000,
}


def an_email() -> str:
    return f"{uuid4().hex}@example.com"


async def post(api: Api, verb: str, **body: Any) -> httpx.Response:
    return await api.client.post(f"{AUTH}/{verb}", json=body)


async def registered(api: Api, email: str | None = None, password: str = PASSWORD) -> dict[str, Any]:
    answer = await post(api, "register", email=email or an_email(), password=password)
    assert answer.status_code == 201, answer.text
    body: dict[str, Any] = answer.json()
    return body


def bearer(body: dict[str, Any]) -> dict[str, str]:
    return {"authorization": f"Bearer {body['access_token']}"}


async def me(api: Api, body: dict[str, Any]) -> httpx.Response:
    return await api.client.get(f"{AUTH}/me", headers=bearer(body))


def refused(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-type"].startswith("application/json")
    return answer.status_code, answer.json()["error"]["code"]


async def test_whoever_registers_is_signed_in(api: Api) -> None:
    email = an_email()
    answer = await post(api, "register", email=email, password=PASSWORD)
    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
    body = answer.json()
    assert set(body) == {"user", "access_token", "token_type", "expires_in", "refresh_token"}
    assert set(body["user"]) == {"id", "email", "is_active", "is_admin", "created_at"}
    assert (body["user"]["email"], body["user"]["is_active"], body["user"]["is_admin"]) == (
        email,
        True,
        False,
    )
    assert body["user"]["created_at"].endswith("Z")
    assert (body["token_type"], body["expires_in"]) == ("bearer", 900)
    assert re.fullmatch(r"chr_[A-Za-z0-9_-]{43}", body["refresh_token"])
    mine = await me(api, body)
    assert mine.status_code == 200
    assert mine.headers["cache-control"] == "no-store"
    assert mine.json() == body["user"] | {
        "storage": {"used_bytes": 0, "quota_bytes": None, "used_images": 0, "quota_images": None}
    }


async def test_signing_in_answers_with_the_same_body(api: Api) -> None:
    email = an_email()
    first = await registered(api, email)
    answer = await post(api, "login", email=email, password=PASSWORD)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    body = answer.json()
    assert set(body) == set(first)
    assert body["user"] == first["user"]
    assert body["refresh_token"] != first["refresh_token"]
    assert (await me(api, body)).status_code == (await me(api, first)).status_code == 200


async def test_an_address_is_taken_in_any_case(api: Api) -> None:
    name = uuid4().hex
    first = await registered(api, f"Ünï.{name}@Example.COM")
    assert first["user"]["email"] == f"Ünï.{name}@example.com"
    again = await post(api, "register", email=f"üNÏ.{name.upper()}@example.com", password=PASSWORD)
    assert refused(again) == (409, "EMAIL_TAKEN")
    signed_in = await post(api, "login", email=f"ünï.{name}@EXAMPLE.com", password=PASSWORD)
    assert signed_in.json()["user"] == first["user"]


async def test_of_many_who_register_an_address_at_once_one_gets_it(api: Api) -> None:
    email = an_email()
    answers = await asyncio.gather(*(post(api, "register", email=email, password=PASSWORD) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 7


@pytest.mark.parametrize(
    ("password", "reason"),
    [
        ("seven77", "too_short"),
        ("x" * 257, "too_long"),
        ("Password1", "common"),
        ("qwertyuiop", "common"),
    ],
    ids=["too-short", "too-long", "common-in-another-case", "common"],
)
async def test_weak_passwords_are_refused(api: Api, password: str, reason: str) -> None:
    answer = await post(api, "register", email=an_email(), password=password)
    assert refused(answer) == (400, "WEAK_PASSWORD")
    details = answer.json()["error"]["details"]
    assert (details["field"], details["reason"]) == ("password", reason)
    assert password not in answer.text


async def test_the_address_is_no_password(api: Api) -> None:
    email = an_email()
    answer = await post(api, "register", email=email, password=email.upper())
    assert refused(answer) == (400, "WEAK_PASSWORD")
    assert answer.json()["error"]["details"]["reason"] == "same_as_email"


async def test_a_password_may_have_any_characters_and_is_the_same_in_both_spellings(api: Api) -> None:
    email = an_email()
    await registered(api, email, "pa\u0000ss \U0001f511 caf\u00e9")
    answer = await post(api, "login", email=email, password="pa\u0000ss \U0001f511 cafe\u0301")
    assert answer.status_code == 200


@pytest.mark.parametrize("email", NO_ADDRESSES.values(), ids=NO_ADDRESSES)
@pytest.mark.parametrize("verb", ["register", "login"])
async def test_what_is_no_address_is_refused(api: Api, verb: str, email: str) -> None:
    answer = await post(api, verb, email=email, password=PASSWORD)
    assert refused(answer) == (400, "INVALID_REQUEST")
    assert answer.json()["error"]["details"] == {"field": "email"}


@pytest.mark.parametrize("body", NO_BODIES.values(), ids=NO_BODIES)
@pytest.mark.parametrize("verb", ["register", "login", "refresh"])
async def test_bodies_that_are_none_are_refused(api: Api, verb: str, body: bytes) -> None:
    answer = await api.client.post(f"{AUTH}/{verb}", content=body)
    assert refused(answer) == (400, "INVALID_REQUEST")


@pytest.mark.parametrize("verb", ["register", "login", "refresh"])
async def test_bodies_that_are_too_large_are_refused(api: Api, verb: str) -> None:
    answer = await post(api, verb, email=an_email(), password="x" * 20_000, refresh_token="x" * 20_000)
    assert refused(answer) == (413, "REQUEST_TOO_LARGE")


async def test_a_wrong_password_an_unknown_address_and_a_deactivated_account_are_refused_alike(
    api: Api,
) -> None:
    email, inactive = an_email(), an_email()
    await registered(api, email)
    body = await registered(api, inactive)
    await execute(api, "UPDATE users SET is_active = false WHERE id = $1", UUID(body["user"]["id"]))
    answers = [
        await post(api, "login", email=email, password="not that one"),
        await post(api, "login", email=an_email(), password=PASSWORD),
        await post(api, "login", email=inactive, password=PASSWORD),
    ]
    assert [refused(answer) for answer in answers] == [(401, "INVALID_CREDENTIALS")] * 3
    assert len({answer.text for answer in answers}) == 1
    assert {answer.headers["www-authenticate"] for answer in answers} == {"Bearer"}


async def test_a_refresh_token_is_exchanged_for_new_tokens(api: Api) -> None:
    first = await registered(api)
    answer = await post(api, "refresh", refresh_token=first["refresh_token"])
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    second = answer.json()
    assert set(second) == set(first)
    assert second["user"] == first["user"]
    assert second["refresh_token"] != first["refresh_token"]
    assert second["access_token"] != first["access_token"]
    for body in (first, second):
        assert (await me(api, body)).status_code == 200
    third = await post(api, "refresh", refresh_token=second["refresh_token"])
    assert third.status_code == 200


async def test_a_used_refresh_token_ends_the_whole_session(api: Api) -> None:
    first = await registered(api)
    other = (await post(api, "login", email=first["user"]["email"], password=PASSWORD)).json()
    second = (await post(api, "refresh", refresh_token=first["refresh_token"])).json()
    reused = await post(api, "refresh", refresh_token=first["refresh_token"])
    assert refused(reused) == (401, "INVALID_TOKEN")
    newest = await post(api, "refresh", refresh_token=second["refresh_token"])
    assert refused(newest) == (401, "INVALID_TOKEN")
    for body in (first, second):
        assert refused(await me(api, body)) == (401, "INVALID_TOKEN")
    # Another session of the same account has nothing to do with it.
    assert (await me(api, other)).status_code == 200
    assert (await post(api, "refresh", refresh_token=other["refresh_token"])).status_code == 200


async def test_of_twenty_refreshes_at_once_one_wins_and_the_session_ends(api: Api) -> None:
    first = await registered(api)
    answers = await asyncio.gather(
        *(post(api, "refresh", refresh_token=first["refresh_token"]) for _ in range(20))
    )
    assert sorted(answer.status_code for answer in answers) == [200] + [401] * 19
    (won,) = [answer.json() for answer in answers if answer.status_code == 200]
    assert refused(await post(api, "refresh", refresh_token=won["refresh_token"])) == (401, "INVALID_TOKEN")
    assert refused(await me(api, won)) == (401, "INVALID_TOKEN")


@pytest.mark.parametrize("token", ["", "chr_", "chr_" + "A" * 43, "nonsense", "é" * 100, "x" * 10_000])
async def test_refresh_tokens_that_are_none_are_refused(api: Api, token: str) -> None:
    answer = await post(api, "refresh", refresh_token=token)
    assert refused(answer) == (401, "INVALID_TOKEN")


async def test_a_session_that_was_not_renewed_in_time_is_over(api: Api) -> None:
    body = await registered(api)
    await execute(
        api,
        "UPDATE sessions SET expires_at = now() - interval '1 second' WHERE user_id = $1",
        UUID(body["user"]["id"]),
    )
    assert refused(await post(api, "refresh", refresh_token=body["refresh_token"])) == (401, "TOKEN_EXPIRED")
    assert refused(await me(api, body)) == (401, "TOKEN_EXPIRED")


async def test_signing_out_ends_the_session_at_once(api: Api) -> None:
    body = await registered(api)
    other = (await post(api, "login", email=body["user"]["email"], password=PASSWORD)).json()
    answer = await api.client.post(f"{AUTH}/logout", headers=bearer(body))
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["cache-control"] == "no-store"
    assert refused(await me(api, body)) == (401, "INVALID_TOKEN")
    again = await api.client.post(f"{AUTH}/logout", headers=bearer(body))
    assert refused(again) == (401, "INVALID_TOKEN")
    assert refused(await post(api, "refresh", refresh_token=body["refresh_token"])) == (401, "INVALID_TOKEN")
    assert (await me(api, other)).status_code == 200


async def test_signing_out_takes_nothing_but_an_access_token(api: Api) -> None:
    body = await registered(api)
    for headers, code in (
        ({}, "NOT_AUTHENTICATED"),
        ({"authorization": f"Bearer {body['refresh_token']}"}, "INVALID_TOKEN"),
    ):
        answer = await api.client.post(f"{AUTH}/logout", headers=headers, json={"session_id": "x"})
        assert refused(answer) == (401, code)
    assert (await me(api, body)).status_code == 200


async def test_nobody_is_somebody_without_a_token(api: Api) -> None:
    answer = await api.client.get(f"{AUTH}/me")
    assert refused(answer) == (401, "NOT_AUTHENTICATED")
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_a_token_that_was_changed_is_refused(api: Api) -> None:
    body = await registered(api)
    head, claims, signature = body["access_token"].split(".")
    other = json.loads(base64.urlsafe_b64decode(claims + "=="))
    other["sub"] = str(uuid4())
    forged = base64.urlsafe_b64encode(json.dumps(other).encode()).rstrip(b"=").decode()
    for token in (f"{head}.{forged}.{signature}", f"{head}.{claims}.", f"{head}.{claims}.{signature[:-2]}AA"):
        answer = await api.client.get(f"{AUTH}/me", headers={"authorization": f"Bearer {token}"})
        assert refused(answer) == (401, "INVALID_TOKEN")


async def test_the_command_line_makes_an_administrator_of_a_closed_house_and_ends_sessions_at_once(
    start_api: StartApi, valkey_url: str
) -> None:
    email = an_email()
    async with start_api(REGISTRATION="closed", QUOTA_BYTES=1000, HTTP_WORKERS=1) as api:
        answer = await post(api, "register", email=email, password=PASSWORD)
        assert refused(answer) == (403, "REGISTRATION_CLOSED")
        assert await api.rows("users") == 0
        await administer(api, valkey_url, "create-admin", email, typed=PASSWORD)
        body = (await post(api, "login", email=email, password=PASSWORD)).json()
        mine = (await me(api, body)).json()
        assert (mine["is_admin"], mine["storage"]["quota_bytes"]) == (True, 1000)
        await administer(api, valkey_url, "user", email, "--deactivate")
        assert refused(await me(api, body)) == (401, "INVALID_TOKEN")
        again = await post(api, "login", email=email, password=PASSWORD)
        assert refused(again) == (401, "INVALID_CREDENTIALS")


async def administer(api: Api, valkey_url: str, *arguments: str, typed: str = "") -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    environment |= {
        f"{PREFIX}DATABASE_URL": api.database_url,
        f"{PREFIX}VALKEY_URL": valkey_url,
        f"{PREFIX}DATA_DIR": str(api.data_dir),
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "chitram.main.cli", "admin", *arguments),
        env=environment,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
    )
    await process.communicate(typed.encode())
    assert process.returncode == 0


async def execute(api: Api, statement: str, *arguments: object) -> None:
    connection = await asyncpg.connect(api.database_url)
    try:
        await connection.execute(statement, *arguments)
    finally:
        await connection.close()


async def test_nothing_of_passwords_tokens_or_addresses_is_logged_or_kept_readable(
    start_api: StartApi,
) -> None:
    email = an_email()
    async with start_api(LOG_FORMAT="json", LOG_LEVEL="debug", HTTP_WORKERS=1) as api:
        first = await registered(api, email)
        second = (await post(api, "refresh", refresh_token=first["refresh_token"])).json()
        await post(api, "login", email=email, password="a wrong password")
        await post(api, "register", email=email, password=PASSWORD)
        await post(api, "refresh", refresh_token=first["refresh_token"])
        await me(api, second)
        tables = await dump(api)
        api.process.terminate()
        await api.process.wait()
        logged = log_of(api)
    secrets = [PASSWORD, "a wrong password", first["refresh_token"], second["refresh_token"]]
    secrets += [first["access_token"], second["access_token"], first["access_token"].split(".")[2]]
    assert "/api/v1/auth/refresh" in logged
    for secret in (*secrets, email):
        assert secret not in logged
    for secret in secrets:
        assert secret not in tables
    assert "$argon2id$v=19$m=19456,t=2,p=1$" in tables


async def dump(api: Api) -> str:
    """Everything that the tables of accounts hold, as text."""
    connection = await asyncpg.connect(api.database_url)
    try:
        rows = [
            await connection.fetch(f"SELECT t::text FROM {table} t")  # noqa: S608 - ours
            for table in ("users", "sessions", "refresh_tokens", "outbox")
        ]
    finally:
        await connection.close()
    return "\n".join(str(row[0]) for table in rows for row in table)

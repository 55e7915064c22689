"""Every kind of token that is no good, over every route that looks at one."""

from __future__ import annotations

import asyncio
import base64
import json
import warnings
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import jwt
import pytest
from jwt.warnings import InsecureKeyLengthWarning

from chitram.accounts.domain.principal import Scope
from chitram.main.api import document
from chitram.platform.signing import derived_key
from tests.api.conftest import StartApi
from tests.support.api import Api
from tests.support.credentials import People, bearer, tokens

pytestmark = pytest.mark.only_over("local", reason="accounts do not depend on where images are kept")

NEW, OLD, DROPPED = (f"the-{age}-key-of-these-tests-is-long-enough" for age in ("new", "old", "dropped"))
AUTH = "/api/v1/auth"
KEYS = f"{AUTH}/api-keys"
ME = f"{AUTH}/me"
IMAGE_ID = "01a2055f-06dc-7c3a-a743-4c0fb87032cb"


@dataclass(frozen=True)
class Route:
    """An operation, and whether it is for anyone too, or for sessions alone."""

    method: str
    path: str
    optional: bool
    sessions_only: bool

    async def asked(self, client: httpx.AsyncClient, headers: Any) -> httpx.Response:
        body = b"{}" if self.method == "PATCH" else None
        return await client.request(self.method, self.path, headers=headers, content=body)


def routes() -> list[Route]:
    """All routes whose description says that credentials count."""
    found = []
    paths: Any = document()["paths"]
    for path, operations in paths.items():
        for method, operation in operations.items():
            if security := operation.get("security"):
                concrete = path
                for name in ("image_id", "upload_id", "key_id"):
                    concrete = concrete.replace(f"{{{name}}}", IMAGE_ID)
                found.append(Route(method.upper(), concrete, {} in security, len(security) == 1))
    return found


ROUTES = routes()


@pytest.fixture(scope="module")
async def api(start_api: StartApi) -> AsyncIterator[Api]:
    """One that has a new key and still takes what the old one has signed."""
    async with start_api(
        SECRET_KEYS=f"{NEW},{OLD}", HTTP_WORKERS=1, DECODERS=1, LOGINS_PER_MINUTE=0
    ) as started:
        yield started


@pytest.fixture(scope="module")
async def people(api: Api) -> AsyncIterator[People]:
    connection = await asyncpg.connect(api.database_url)
    yield People(connection)
    await connection.close()


@dataclass(frozen=True)
class Somebody:
    """An account with a session that is open, and what is true of its tokens."""

    user_id: UUID
    session_id: UUID

    def token(self, *keys: str, life: timedelta = timedelta(minutes=15)) -> str:
        return tokens(keys or (NEW,), life).issue(self.user_id, self.session_id)[0]

    def claims(self, **other: object) -> dict[str, Any]:
        claims = jwt.decode(self.token(), options={"verify_signature": False})
        return {name: value for name, value in {**claims, **other}.items() if value is not None}

    def signed(
        self, *, key: str = NEW, algorithm: str = "HS256", kid: object = "right", **claims: object
    ) -> str:
        headers = {"kid": jwt.get_unverified_header(self.token())["kid"] if kid == "right" else kid}
        if kid is None:
            headers = {}
        secret = derived_key(key, "access token")
        with warnings.catch_warnings():
            # It is told that the key is short for another algorithm.
            warnings.simplefilter("ignore", InsecureKeyLengthWarning)
            return jwt.encode(self.claims(**claims), secret, algorithm=algorithm, headers=headers)

    def crafted(self, header: object, payload: object | None = None, signature: str = "") -> str:
        return ".".join([part(header), part(payload if payload is not None else self.claims()), signature])


def part(value: object) -> str:
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def tampered(somebody: Somebody) -> str:
    header, _, signature = somebody.token().split(".")
    return ".".join([header, part(somebody.claims(sub=str(uuid4()))), signature])


def now() -> int:
    return int(datetime.now(UTC).timestamp())


@pytest.fixture(scope="module")
async def somebody(people: People) -> Somebody:
    user_id = await people.user()
    return Somebody(user_id, await people.session(user_id))


BAD: dict[str, Callable[[Somebody], str]] = {
    "no-algorithm": lambda one: one.crafted({"alg": "none", "typ": "JWT"}),
    "no-algorithm-in-capitals": lambda one: one.crafted({"alg": "NONE", "typ": "JWT", "kid": "x"}),
    "no-algorithm-with-kid": lambda one: one.crafted(
        {**jwt.get_unverified_header(one.token()), "alg": "none"}
    ),
    "no-signature": lambda one: one.token().rpartition(".")[0] + ".",
    "another-algorithm": lambda one: one.signed(algorithm="HS512"),
    "another-key": lambda one: one.signed(key=DROPPED),
    "dropped-key": lambda one: one.token(DROPPED),
    "key-of-another-purpose": lambda one: jwt.encode(
        one.claims(), derived_key(NEW, "image link"), headers=jwt.get_unverified_header(one.token())
    ),
    "the-secret-itself": lambda one: jwt.encode(
        one.claims(), NEW, headers=jwt.get_unverified_header(one.token())
    ),
    "unknown-kid": lambda one: one.signed(kid="0123456789abcdef"),
    "no-kid": lambda one: one.signed(kid=None),
    "kid-is-a-list": lambda one: one.crafted({"alg": "HS256", "kid": ["x"]}, signature="AAAA"),
    "header-is-a-list": lambda one: one.crafted(["HS256"], signature="AAAA"),
    "header-is-no-json": lambda one: one.crafted(b"\xff\x00", signature="AAAA"),
    "header-nests-deeply": lambda one: one.crafted(b"[" * 1000, signature="AAAA"),
    "claims-are-a-list": lambda one: one.crafted(jwt.get_unverified_header(one.token()), [], "AAAA"),
    "wrong-audience": lambda one: one.signed(aud="another-api"),
    "no-audience": lambda one: one.signed(aud=None),
    "wrong-issuer": lambda one: one.signed(iss="somebody"),
    "made-tomorrow": lambda one: one.signed(iat=now() + 86_400),
    "never-expires": lambda one: one.signed(exp=None),
    "no-subject": lambda one: one.signed(sub=None),
    "no-session": lambda one: one.signed(sid=None),
    "session-is-no-id": lambda one: one.signed(sid="x"),
    "unknown-session": lambda one: one.signed(sid=str(uuid4())),
    "session-of-another": lambda one: one.signed(sub=str(uuid4())),
    "tampered-claims": tampered,
    "cut": lambda one: one.token()[:-5],
    "five-parts": lambda one: one.token() + ".a.b",
    "no-token": lambda _: "x",
    "too-long": lambda one: one.token() + "A" * 8192,
    "refresh-token": lambda _: "chr_" + "A" * 43,
    "unknown-api-key": lambda _: "chk_" + "A" * 43,
    "cut-api-key": lambda _: "chk_" + "A" * 42,
    "long-api-key": lambda _: "chk_" + "A" * 44,
}


@pytest.mark.parametrize("kind", BAD)
async def test_a_token_that_is_no_good_is_refused_by_every_route(
    api: Api, somebody: Somebody, kind: str
) -> None:
    headers = bearer(BAD[kind](somebody))
    for route in ROUTES:
        refused(await route.asked(api.client, headers), "INVALID_TOKEN", route)


def refused(answer: httpx.Response, expected: str, about: object = None) -> None:
    assert answer.status_code == 401, about
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.headers["cache-control"] == "no-store"
    if answer.request.method == "HEAD":
        return
    assert answer.json()["error"]["code"] == expected, about
    assert set(answer.json()["error"]) == {"code", "message", "details"}


def test_every_route_that_knows_of_accounts_is_among_them() -> None:
    paths: Any = document()["paths"]
    without = {
        f"{method} {path}"
        for path, operations in paths.items()
        for method, operation in operations.items()
        if not operation.get("security")
    }
    assert without == {
        *(f"post {AUTH}/{verb}" for verb in ("login", "refresh", "register")),
        "put /api/v1/uploads/{upload_id}/content",
        *(f"{method} /health{rest}" for method in ("get", "head") for rest in ("", "/live", "/ready")),
    }
    for operations in paths.values():
        for operation in operations.values():
            assert "401" in operation["responses"] or not operation.get("security")


async def test_a_good_token_gets_through_everywhere(api: Api, people: People) -> None:
    user_id = await people.user()
    for route in ROUTES:
        somebody = Somebody(user_id, await people.session(user_id))
        answer = await route.asked(api.client, bearer(somebody.token()))
        assert answer.status_code < 500, route
        assert answer.status_code not in {401, 403} or answer.json()["error"]["code"] in {
            "DELETE_TOKEN_REQUIRED",
            "UPLOAD_TOKEN_REQUIRED",
        }, route


async def test_without_any_only_what_is_for_anyone_is_answered(api: Api) -> None:
    for route in ROUTES:
        answer = await route.asked(api.client, {})
        if route.optional:
            assert answer.status_code != 401, route
        elif f"images/{IMAGE_ID}" in route.path:
            # What they may not see is not there, whatever they wanted to do with it.
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "IMAGE_NOT_FOUND"), route
        else:
            refused(answer, "NOT_AUTHENTICATED", route)


async def test_a_key_without_scopes_may_nothing_that_takes_an_account(api: Api, people: People) -> None:
    key = await people.key(await people.user())
    for route in ROUTES:
        answer = await route.asked(api.client, {"x-api-key": key})
        assert answer.status_code != 401, route
        if not route.optional and route.path != ME and f"images/{IMAGE_ID}" not in route.path:
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "FORBIDDEN"), route


async def test_expired_tokens_say_so_everywhere(api: Api, somebody: Somebody, people: People) -> None:
    expired = somebody.signed(iat=now() - 100, exp=now() - 11)
    key = await people.key(somebody.user_id, Scope.READ, life=timedelta(seconds=-1))
    over = Somebody(somebody.user_id, await people.session(somebody.user_id, timedelta(seconds=-1))).token()
    for token in (expired, key, over):
        for route in ROUTES:
            refused(await route.asked(api.client, bearer(token)), "TOKEN_EXPIRED", route)


async def test_clocks_may_differ_a_little(api: Api, somebody: Somebody) -> None:
    for token in (somebody.signed(exp=now() - 5), somebody.signed(iat=now() + 5)):
        assert (await api.client.get(ME, headers=bearer(token))).status_code == 200


async def test_revoked_sessions_are_refused_everywhere(api: Api, people: People) -> None:
    user_id = await people.user()
    somebody = Somebody(user_id, await people.session(user_id))
    await people.revoke(somebody.session_id)
    inactive_id = await people.user()
    inactive = Somebody(inactive_id, await people.session(inactive_id))
    await people.change(inactive_id, is_active=False)
    for one in (somebody, inactive):
        for route in ROUTES:
            refused(await route.asked(api.client, bearer(one.token())), "INVALID_TOKEN", route)


async def test_after_a_key_was_rotated_the_old_one_still_verifies_and_the_new_one_signs(
    api: Api, somebody: Somebody
) -> None:
    for key in (NEW, OLD):
        assert (await api.client.get(ME, headers=bearer(somebody.token(key)))).status_code == 200
    refused(await api.client.get(ME, headers=bearer(somebody.token(DROPPED))), "INVALID_TOKEN")
    issued = (await registered(api))["access_token"]
    kid = jwt.get_unverified_header(issued)["kid"]
    assert kid == jwt.get_unverified_header(somebody.token(NEW))["kid"]
    assert kid != jwt.get_unverified_header(somebody.token(OLD))["kid"]


async def registered(api: Api) -> dict[str, Any]:
    body = {"email": f"{uuid4().hex}@example.com", "password": "four random words, that is"}
    answer = await api.client.post(f"{AUTH}/register", json=body)
    assert answer.status_code == 201, answer.text
    signed_in: dict[str, Any] = answer.json()
    return signed_in


async def test_a_refresh_token_that_comes_back_ends_all_tokens_of_its_session_at_once(api: Api) -> None:
    first = await registered(api)
    refresh = {"refresh_token": first["refresh_token"]}
    second = (await api.client.post(f"{AUTH}/refresh", json=refresh)).json()
    for body in (first, second):
        assert (await api.client.get(ME, headers=bearer(body["access_token"]))).status_code == 200
    refused(await api.client.post(f"{AUTH}/refresh", json=refresh), "INVALID_TOKEN")
    for body in (first, second):
        refused(await api.client.get(ME, headers=bearer(body["access_token"])), "INVALID_TOKEN")
    last = await api.client.post(f"{AUTH}/refresh", json={"refresh_token": second["refresh_token"]})
    refused(last, "INVALID_TOKEN")


async def test_whoever_signs_out_is_refused_everywhere_at_once(api: Api) -> None:
    body = await registered(api)
    headers = bearer(body["access_token"])
    assert (await api.client.get(ME, headers=headers)).status_code == 200
    assert (await api.client.post(f"{AUTH}/logout", headers=headers)).status_code == 204
    for route in ROUTES:
        refused(await route.asked(api.client, headers), "INVALID_TOKEN", route)


HEADERS: dict[str, Callable[[str, str], Any]] = {
    "basic": lambda *_: {"authorization": "Basic dXNlcjpwYXNzd29yZA=="},
    "no-scheme": lambda token, _: {"authorization": token},
    "scheme-alone": lambda *_: {"authorization": "Bearer"},
    "empty": lambda *_: {"authorization": ""},
    "empty-key": lambda *_: {"x-api-key": ""},
    "two-tokens": lambda token, _: {"authorization": f"Bearer {token} {token}"},
    "two-lines": lambda token, _: [("authorization", f"Bearer {token}")] * 2,
    "two-keys": lambda _, key: [("x-api-key", key)] * 2,
    "token-as-key": lambda token, _: {"x-api-key": token},
    "token-and-key": lambda token, key: {**bearer(token), "x-api-key": key},
    "good-token-and-bad-key": lambda token, _: {**bearer(token), "x-api-key": "chk_" + "A" * 43},
    "bad-scheme-and-good-key": lambda _, key: {"authorization": "Basic x", "x-api-key": key},
    "no-ascii": lambda *_: {"authorization": "Bearer \xff".encode("latin-1")},
    "key-is-no-ascii": lambda *_: {"x-api-key": b"chk_" + b"\xff" * 43},
    "key-is-huge": lambda *_: {"x-api-key": "chk_" + "A" * 30_000},
    "token-is-huge": lambda *_: {"authorization": "Bearer " + "A." * 15_000},
}


@pytest.mark.parametrize("kind", HEADERS)
async def test_a_header_that_is_no_good_is_refused(
    api: Api, somebody: Somebody, people: People, kind: str
) -> None:
    key = await people.key(somebody.user_id, Scope.READ)
    headers = HEADERS[kind](somebody.token(), key)
    for path in (ME, "/api/v1/images/x"):
        refused(await api.client.get(path, headers=headers), "INVALID_TOKEN", path)


async def test_the_scheme_is_taken_in_any_case_and_a_key_twice_over(
    api: Api, somebody: Somebody, people: People
) -> None:
    key = await people.key(somebody.user_id, Scope.READ)
    good: list[Any] = [
        {"authorization": f"bEARER  {somebody.token()}"},
        {"x-api-key": key},
        bearer(key),
        {**bearer(key), "x-api-key": key},
    ]
    answers = await asyncio.gather(*(api.client.get(ME, headers=headers) for headers in good))
    assert [answer.status_code for answer in answers] == [200] * 4


async def test_an_administrators_key_is_one_only_with_the_scope_and_while_they_are(
    api: Api, people: People
) -> None:
    admin_id, owner_id = await people.user(is_admin=True), await people.user()
    wanted = {"owner_id": str(owner_id)}
    scoped, plain = (
        await people.key(admin_id, Scope.READ, Scope.ADMIN),
        await people.key(admin_id, Scope.READ),
    )
    usurped = await people.key(owner_id, Scope.READ, Scope.ADMIN)
    session = Somebody(admin_id, await people.session(admin_id)).token()
    other_id = {"owner_id": str(admin_id)}
    for token, params, status in (
        (session, wanted, 200),
        (scoped, wanted, 200),
        (plain, wanted, 403),
        (usurped, other_id, 403),
    ):
        answer = await api.client.get("/api/v1/images", params=params, headers=bearer(token))
        assert answer.status_code == status

"""A private image, asked for by every kind of caller over every path.

Whoever may not see it gets, to the byte, what an id that no image has gets; only the request's own id
and the time differ.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest

from chitram.accounts.domain.principal import Scope
from chitram.images.public import RenditionKind
from chitram.platform.objects.local import LocalStore
from tests.support.accounts import Account, Headers, bearer
from tests.support.owning import IMAGES, House, StartHouse, code_of
from tests.support.renditions import mark_processed, put_rendition

READ, WRITE, ADMIN = Scope.READ, Scope.WRITE, Scope.ADMIN
_OF_THE_MOMENT = {"x-request-id", "date"}
RENDITIONS = (RenditionKind.MEDIUM, RenditionKind.OPTIMISED)


@dataclass
class Scene:
    """An API with a private image in it that is wholly processed."""

    house: House
    owner: Account
    image: dict[str, Any]

    @classmethod
    async def new(cls, house: House) -> Scene:
        """Have the owner sign up and upload, as people do."""
        answer = await house.client.post(
            "/api/v1/auth/register",
            json={"email": f"{uuid4().hex}@example.com", "password": uuid4().hex},
        )
        assert answer.status_code == 201, answer.text
        headers = {"authorization": f"Bearer {answer.json()['access_token']}"}
        row = await house.accounts.connection.fetchrow(
            "SELECT id, user_id FROM sessions WHERE user_id = $1::uuid", answer.json()["user"]["id"]
        )
        owner = Account(row["user_id"], row["id"], headers)
        image = (await house.upload(owner, visibility="private")).json()
        store = LocalStore("local", house.api.data_dir / "objects")
        await store.start()
        for kind in RENDITIONS:
            await put_rendition(house.api.database_url, store, image["id"], kind, "jpeg")
        await store.aclose()
        await mark_processed(house.api.database_url, image["id"])
        return cls(house, owner, image)

    @property
    def etag(self) -> str:
        return f'"{self.image["checksum"]}"'

    async def ask(self, path: Path, who: Headers, image_id: str) -> httpx.Response:
        """Ask for a path of an image, or of none."""
        headers = {**who, **{name: value.format(etag=self.etag) for name, value in path.headers.items()}}
        return await self.house.client.request(
            path.method,
            f"{IMAGES}/{image_id}{path.resource}",
            headers=headers,
            params=path.query,
            json=path.body,
        )


@dataclass(frozen=True)
class Path:
    """A request about one image; what it answers, and which scope whoever sees the image needs.

    A status of 0 is that of whatever is wrong with the request itself.
    """

    method: str
    resource: str = ""
    status: int = 200
    scope: Scope = READ
    headers: Headers = field(default_factory=dict)
    query: dict[str, str] = field(default_factory=dict)
    body: Any = None


PATHS = {
    "metadata": Path("GET"),
    "head-of-metadata": Path("HEAD"),
    "file": Path("GET", "/file"),
    "head-of-file": Path("HEAD", "/file"),
    "range": Path("GET", "/file", 206, headers={"range": "bytes=0-9"}),
    "range-that-is-not-there": Path("GET", "/file", 416, headers={"range": "bytes=900000-"}),
    "if-none-match": Path("GET", "/file", 304, headers={"if-none-match": "{etag}"}),
    "if-none-match-of-any": Path("HEAD", "/file", 304, headers={"if-none-match": "*"}),
    "if-match": Path("GET", "/file", 412, headers={"if-match": '"other"'}),
    "if-range": Path("GET", "/file", 206, headers={"range": "bytes=0-9", "if-range": "{etag}"}),
    "if-modified-since": Path(
        "GET", "/file", 304, headers={"if-modified-since": "Fri, 01 Jan 2100 00:00:00 GMT"}
    ),
    "thumbnail": Path("GET", "/thumbnail"),
    "head-of-thumbnail": Path("HEAD", "/thumbnail"),
    "thumbnail-not-ready": Path("GET", "/thumbnail", 404, query={"size": "large"}),
    "no-thumbnail": Path("GET", "/thumbnail", 0, query={"size": "huge"}),
    "thumbnail-if-none-match": Path("GET", "/thumbnail", 304, headers={"if-none-match": "*"}),
    "optimised": Path("GET", "/optimised", headers={"accept": "image/webp"}),
    "head-of-optimised": Path("HEAD", "/optimised"),
    "link": Path("POST", "/links", 201, WRITE, body={"expires_in": 60}),
    "no-link": Path("POST", "/links", 0, WRITE, body={"expires_in": 0}),
    "wrong-link": Path("GET", "/file", query={"expires": "9999999999", "signature": "x"}),
    "verify": Path("POST", "/verify"),
    "change-nothing": Path("PATCH", "", 200, WRITE, body={}),
    "change": Path("PATCH", "", 200, WRITE, body={"filename": "b.jpg"}),
    "no-change": Path("PATCH", "", 0, WRITE, body={"owner_id": None}),
    "unknown": Path("GET", "/unknown", 0),
    "not-allowed": Path("PUT", "/file", 0),
}
DELETE = Path("DELETE", "", 204, WRITE)


@dataclass(frozen=True)
class Caller:
    """Who asks, what their credentials are good for on this image, and what they get if nothing."""

    headers: Callable[[Scene], Awaitable[Headers]]
    scopes: frozenset[Scope] = frozenset()
    refusal: tuple[int, str] = (404, "IMAGE_NOT_FOUND")

    @property
    def sees(self) -> bool:
        return READ in self.scopes


def token_of(name: str) -> Callable[[Scene], Awaitable[Headers]]:
    async def headers(scene: Scene) -> Headers:
        account: Account = scene.owner if name == "owner" else getattr(scene.house, name)
        return account.headers

    return headers


def key_of(name: str, *scopes: Scope, life: timedelta | None = None) -> Callable[[Scene], Awaitable[Headers]]:
    async def headers(scene: Scene) -> Headers:
        account: Account = scene.owner if name == "owner" else getattr(scene.house, name)
        return await scene.house.accounts.key(account, *scopes, life=life)

    return headers


async def nobody(_: Scene) -> Headers:
    return {}


async def holder_of_a_delete_token(scene: Scene) -> Headers:
    return {"x-delete-token": (await scene.house.upload()).json()["delete_token"]}


async def expired(scene: Scene) -> Headers:
    return bearer(scene.owner.id, scene.owner.session_id, life=timedelta(hours=-1))


async def signed_by_another_key(scene: Scene) -> Headers:
    return bearer(scene.owner.id, scene.owner.session_id, key="a key that this server never had at all")


async def signed_out(scene: Scene) -> Headers:
    account = await scene.house.accounts.another_session(scene.owner)
    assert (await scene.house.ask("GET", f"/{scene.image['id']}", account)).status_code == 200
    left = await scene.house.client.post("/api/v1/auth/logout", headers=account.headers)
    assert left.status_code == 204
    return account.headers


async def deactivated(scene: Scene) -> Headers:
    """The owner of a private image, too, who is not let in any more."""
    account = await scene.house.accounts.somebody()
    await scene.house.accounts.people.change(account.id, is_active=False)
    await scene.house.accounts.connection.execute(
        "UPDATE images SET owner_id = $2 WHERE id = $1::uuid", scene.image["id"], account.id
    )
    return account.headers


async def key_that_was_removed(scene: Scene) -> Headers:
    key = await scene.house.accounts.key(scene.owner, READ, WRITE)
    await scene.house.accounts.people.remove_key(key["x-api-key"])
    return key


NOT_VALID, EXPIRED = (401, "INVALID_TOKEN"), (401, "TOKEN_EXPIRED")
CALLERS = {
    "nobody": Caller(nobody),
    "holder-of-a-delete-token": Caller(holder_of_a_delete_token),
    "stranger": Caller(token_of("stranger")),
    "key-of-a-stranger": Caller(key_of("stranger", READ, WRITE, ADMIN)),
    "owner": Caller(token_of("owner"), frozenset({READ, WRITE})),
    "key-of-the-owner": Caller(key_of("owner", READ, WRITE), frozenset({READ, WRITE})),
    "reading-key-of-the-owner": Caller(key_of("owner", READ), frozenset({READ})),
    "writing-key-of-the-owner": Caller(key_of("owner", WRITE), frozenset({WRITE})),
    "administrator": Caller(token_of("admin"), frozenset({READ, WRITE})),
    "key-of-an-administrator": Caller(key_of("admin", *Scope), frozenset({READ, WRITE})),
    "reading-key-of-an-administrator": Caller(key_of("admin", READ, ADMIN), frozenset({READ})),
    "administering-key": Caller(key_of("admin", ADMIN)),
    "plain-key-of-an-administrator": Caller(key_of("admin", READ, WRITE)),
    "expired-token": Caller(expired, refusal=EXPIRED),
    "token-of-another-key": Caller(signed_by_another_key, refusal=NOT_VALID),
    "signed-out": Caller(signed_out, refusal=NOT_VALID),
    "deactivated-owner": Caller(deactivated, refusal=NOT_VALID),
    "expired-key": Caller(key_of("owner", READ, WRITE, life=timedelta(seconds=-1)), refusal=EXPIRED),
    "removed-key": Caller(key_that_was_removed, refusal=NOT_VALID),
}


def essence(answer: httpx.Response) -> tuple[int, list[tuple[str, str]], bytes]:
    """All of an answer that may tell of the image."""
    fields = [(name, value) for name, value in answer.headers.multi_items() if name not in _OF_THE_MOMENT]
    return answer.status_code, sorted(fields), answer.content


def expected(path: Path, caller: Caller) -> int:
    """The status of a request that is right in itself, by whoever sees the image."""
    return path.status if path.scope in caller.scopes else 403


@pytest.fixture(scope="module")
async def open_house(start_house: StartHouse) -> AsyncIterator[House]:
    async with start_house(LOGINS_PER_MINUTE=0) as started:
        yield started


@pytest.fixture(scope="module")
async def shared_scene(open_house: House) -> Scene:
    """A scene for those who change nothing of it."""
    return await Scene.new(open_house)


@pytest.mark.parametrize(
    ("name", "cached"),
    [
        pytest.param(name, cached, id=f"{name}-{'once-the-owner-has-read-it' if cached else 'at-first'}")
        for name, caller in CALLERS.items()
        for cached in (False, True)
        # Bad credentials are refused before anything is looked up.
        if not cached or caller.refusal[0] != 401
    ],
)
async def test_a_private_image_is_there_for_those_who_may_see_it_and_for_nobody_else(
    open_house: House, name: str, *, cached: bool
) -> None:
    scene, caller = await Scene.new(open_house), CALLERS[name]
    if cached:
        for resource in ("", "/file", "/thumbnail", "/optimised", "/verify"):
            method = "POST" if resource == "/verify" else "GET"
            read = await open_house.ask(method, f"/{scene.image['id']}{resource}", scene.owner)
            assert read.status_code == 200
        assert (await open_house.ask("GET", "", scene.owner)).json()["items"]
    who = await caller.headers(scene)
    for path_name, path in (PATHS | {"delete": DELETE}).items():
        answer = await scene.ask(path, who, scene.image["id"])
        if caller.sees and path.status:
            assert answer.status_code == expected(path, caller), path_name
            # 416 and 412 are errors, and those are kept by nobody either.
            assert "no-store" in answer.headers.get("cache-control", "no-store"), path_name
            continue
        of_nothing = await scene.ask(path, who, str(uuid4()))
        if not caller.sees:
            assert essence(answer) == essence(of_nothing), path_name
            if path.status and path.method != "HEAD":
                assert code_of(answer) == caller.refusal, path_name
            elif path.status:
                assert answer.status_code == caller.refusal[0], path_name
    is_there = (await open_house.ask("GET", f"/{scene.image['id']}", open_house.admin)).status_code == 200
    assert is_there != ({READ, WRITE} <= caller.scopes)


@pytest.mark.parametrize("name", [name for name in CALLERS if name != "deactivated-owner"])
async def test_lists_have_a_private_image_for_those_who_may_see_it_alone(
    open_house: House, shared_scene: Scene, name: str
) -> None:
    scene, caller = shared_scene, CALLERS[name]
    is_admin = "admin" in name and caller.sees
    who = await caller.headers(scene)
    for query, allowed in (
        ({}, True),
        ({"visibility": "private"}, True),
        ({"owner_id": str(scene.owner.id)}, is_admin or (caller.sees and "owner" in name)),
        ({"all_owners": "true"}, is_admin),
    ):
        answer = await open_house.ask("GET", "", who, params=query)
        if answer.status_code != 200:
            assert scene.image["id"] not in answer.text
            assert not (allowed and caller.sees)
            continue
        assert allowed
        assert answer.headers["cache-control"] == "private, no-store"
        shown = scene.image["id"] in [item["id"] for item in answer.json()["items"]]
        assert shown == (caller.sees and (not is_admin or "owner_id" in query or "all_owners" in query))


@pytest.mark.parametrize("name", [name for name in CALLERS if name != "deactivated-owner"])
async def test_a_signed_link_opens_the_file_for_whoever_has_it_unless_their_credentials_are_bad(
    open_house: House, shared_scene: Scene, name: str
) -> None:
    scene, caller = shared_scene, CALLERS[name]
    image_id = scene.image["id"]
    link = await open_house.ask("POST", f"/{image_id}/links", scene.owner, json={"expires_in": 60})
    query = link.json()["url"].partition("?")[2]
    who = await caller.headers(scene)
    opened = await open_house.ask("GET", f"/{image_id}/file?{query}", who)
    assert opened.status_code == (401 if caller.refusal[0] == 401 else 200)
    if caller.sees:
        return
    for method, resource in (
        *(("GET", ""), ("GET", "/thumbnail"), ("GET", "/optimised"), ("POST", "/verify")),
        *(("POST", "/links"), ("PATCH", ""), ("DELETE", "")),
    ):
        body = {"expires_in": 60} if resource == "/links" else {}
        answers = [
            await open_house.ask(method, f"/{asked}{resource}?{query}", who, json=body)
            for asked in (image_id, uuid4())
        ]
        assert essence(answers[0]) == essence(answers[1]), resource
        assert code_of(answers[0]) == caller.refusal


async def test_what_becomes_private_is_gone_for_others_at_once_and_for_those_who_have_it_cached(
    open_house: House,
) -> None:
    scene = await Scene.new(open_house)
    address, owner = f"/{scene.image['id']}", scene.owner
    public = await open_house.ask("PATCH", address, owner, json={"visibility": "public"})
    assert public.status_code == 200
    for _ in range(3):
        for resource in ("", "/file", "/thumbnail", "/optimised"):
            assert (await open_house.ask("GET", address + resource)).status_code == 200
            conditional = await open_house.ask(
                "GET", address + "/file", headers={"if-none-match": scene.etag}
            )
            assert conditional.status_code == 304
        private = await open_house.ask("PATCH", address, owner, json={"visibility": "private"})
        assert private.json()["visibility"] == "private"
        for resource in ("", "/file", "/thumbnail", "/optimised"):
            for who in (None, open_house.stranger):
                refused = await open_house.ask(
                    "GET", address + resource, who, headers={"if-none-match": scene.etag}
                )
                assert code_of(refused) == (404, "IMAGE_NOT_FOUND")
            assert (await open_house.ask("GET", address + resource, owner)).status_code == 200
        again = await open_house.ask("PATCH", address, owner, json={"visibility": "unlisted"})
        assert again.json()["visibility"] == "unlisted"

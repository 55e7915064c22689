"""Signed links: who may make them, what they open, and what is no link."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chitram.images.public import RenditionKind
from chitram.platform.objects.local import LocalStore
from chitram.platform.settings import Settings
from chitram.platform.signing import Signer
from tests.support.api import UPLOAD, make_data_dir
from tests.support.images import add_image
from tests.support.in_process import People, in_process, signed_in
from tests.support.photos import jpeg
from tests.support.renditions import mark_processed, put_rendition
from tests.support.servers import drop_database, new_database

OLD_KEY, KEY = "an old key that signed before this one", "a key that signs all links of these tests"
OWNER, STRANGER = uuid4(), uuid4()


@dataclass
class House:
    """An application that knows who asks, and an image in it."""

    client: httpx.AsyncClient
    settings: Settings
    uploaded: str

    async def image(self, visibility: str = "private", owner: UUID | None = OWNER, **fields: Any) -> str:
        return await add_image(
            self.settings.database_url, self.uploaded, visibility=visibility, owner=owner, **fields
        )

    async def ask(
        self, image_id: str, who: UUID | str | None, body: Any = None, **content: Any
    ) -> httpx.Response:
        """Ask for a link of a minute, or with a body of the test's own."""
        headers = signed_in(who) if who else {}
        given = content or {"json": {"expires_in": 60} if body is None else body}
        return await self.client.post(f"/api/v1/images/{image_id}/links", headers=headers, **given)

    async def link(self, image_id: str, seconds: int = 60) -> str:
        answer = await self.ask(image_id, OWNER, {"expires_in": seconds})
        assert answer.status_code == 201, answer.text
        url: str = answer.json()["url"]
        return url


@pytest.fixture(scope="session")
async def house(postgres_url: str, migrated_url: str, valkey_url: str) -> AsyncIterator[House]:
    database_url, data_dir = await new_database(postgres_url, template=migrated_url), make_data_dir()
    given = Settings(
        database_url=database_url,
        valkey_url=valkey_url,
        data_dir=str(data_dir),
        secret_keys=(KEY, OLD_KEY),
        uploads_per_minute=0,
        decoders=1,
    )
    try:
        (data_dir / "spool").mkdir()
        async with in_process(given, People()) as client:
            answer = await client.post(UPLOAD, files={"file": ("photo.jpg", jpeg())})
            yield House(client, given, answer.json()["id"])
    finally:
        shutil.rmtree(data_dir)
        await drop_database(database_url)


def code_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


NOT_FOUND = (404, "IMAGE_NOT_FOUND")


@pytest.mark.parametrize("visibility", ["private", "unlisted", "public"])
async def test_the_owner_gets_a_link(house: House, visibility: str) -> None:
    image_id = await house.image(visibility)
    answer = await house.ask(image_id, OWNER)
    assert (answer.status_code, answer.headers["cache-control"]) == (201, "no-store")
    body = answer.json()
    assert body["url"].startswith(f"/api/v1/images/{image_id}/file?expires=")
    left = datetime.fromisoformat(body["expires_at"]) - datetime.now(UTC)
    assert timedelta(seconds=50) < left <= timedelta(seconds=60)
    file = await house.client.get(body["url"])
    assert file.status_code == 200


async def test_an_administrator_gets_a_link_to_any_image(house: House) -> None:
    for owner in (OWNER, None):
        answer = await house.ask(await house.image(owner=owner), "admin")
        assert (await house.client.get(answer.json()["url"])).status_code == 200


async def test_nobody_else_gets_a_link(house: House) -> None:
    private, unlisted = await house.image(), await house.image("unlisted")
    assert code_of(await house.ask(private, None)) == NOT_FOUND
    assert code_of(await house.ask(private, STRANGER)) == NOT_FOUND
    assert code_of(await house.ask(unlisted, STRANGER)) == (403, "FORBIDDEN")
    anonymous = await house.ask(unlisted, None)
    assert code_of(anonymous) == (401, "NOT_AUTHENTICATED")
    assert anonymous.headers["www-authenticate"] == "Bearer"


async def test_an_image_that_nobody_owns_is_not_owned_by_those_who_are_nobody(house: House) -> None:
    assert code_of(await house.ask(house.uploaded, None)) == (401, "NOT_AUTHENTICATED")
    assert code_of(await house.ask(house.uploaded, STRANGER)) == (403, "FORBIDDEN")
    assert code_of(await house.ask(await house.image(owner=None), None)) == NOT_FOUND


async def test_the_owner_and_those_with_the_link_see_a_private_image_and_nobody_else(house: House) -> None:
    image_id = await house.image()
    address = f"/api/v1/images/{image_id}/file"
    assert code_of(await house.client.get(address)) == NOT_FOUND
    assert code_of(await house.client.get(address, headers=signed_in(STRANGER))) == NOT_FOUND
    for headers in (signed_in(OWNER), signed_in("admin")):
        assert (await house.client.get(address, headers=headers)).status_code == 200
    metadata = await house.client.get(f"/api/v1/images/{image_id}", headers=signed_in(OWNER))
    assert (metadata.status_code, metadata.headers["cache-control"]) == (200, "private, no-store")
    linked = await house.client.get(await house.link(image_id))
    assert (linked.status_code, linked.headers["cache-control"]) == (200, "private, no-store")


async def test_renditions_of_a_private_image_are_for_those_who_see_it_and_kept_by_nobody(
    house: House,
) -> None:
    image_id = await house.image()
    store = LocalStore("local", Path(house.settings.data_dir) / "objects")
    await store.start()
    put = [
        await put_rendition(house.settings.database_url, store, image_id, kind)
        for kind in (RenditionKind.MEDIUM, RenditionKind.OPTIMISED)
    ]
    await store.aclose()
    await mark_processed(house.settings.database_url, image_id)
    for resource, rendition in zip(("thumbnail", "optimised"), put, strict=True):
        address = f"/api/v1/images/{image_id}/{resource}"
        for who in (OWNER, "admin"):
            answer = await house.client.get(address, headers=signed_in(who))
            assert (answer.status_code, answer.content) == (200, rendition.content)
            known = {**signed_in(who), "if-none-match": rendition.etag}
            fresh = await house.client.get(address, headers=known)
            assert fresh.status_code == 304
            for kept in (answer, fresh):
                assert kept.headers["cache-control"] == "private, no-store"
        for headers in ({}, signed_in(STRANGER), {"if-none-match": rendition.etag}):
            assert code_of(await house.client.get(address, headers=headers)) == NOT_FOUND


async def test_a_link_opens_the_file_alone(house: House) -> None:
    image_id = await house.image()
    query = (await house.link(image_id)).partition("?")[2]
    for resource in ("", "/thumbnail", "/optimised"):
        answer = await house.client.get(f"/api/v1/images/{image_id}{resource}?{query}")
        assert code_of(answer) == NOT_FOUND
    assert code_of(await house.client.post(f"/api/v1/images/{image_id}/links?{query}")) == NOT_FOUND


async def test_a_link_opens_its_own_image_alone(house: House) -> None:
    query = (await house.link(await house.image())).partition("?")[2]
    assert code_of(await house.client.get(f"/api/v1/images/{await house.image()}/file?{query}")) == NOT_FOUND


async def test_a_link_is_the_same_for_an_id_in_capitals(house: House) -> None:
    image_id = await house.image()
    link = await house.link(image_id)
    assert (await house.client.get(link.replace(image_id, image_id.upper()))).status_code == 200


def signed(image_id: str, expires: int | str, key: str = KEY, purpose: str = "image link") -> str:
    """A link that is made by hand."""
    signature = Signer((key,), purpose).sign("file", image_id, str(expires))
    return f"/api/v1/images/{image_id}/file?expires={expires}&signature={signature}"


def soon() -> int:
    return int(datetime.now(UTC).timestamp()) + 60


async def test_a_link_ends_with_its_time(house: House) -> None:
    image_id, now = await house.image(), int(datetime.now(UTC).timestamp())
    assert (await house.client.get(signed(image_id, now + 60))).status_code == 200
    for expires in (now, now - 1, now - 10**6):
        assert code_of(await house.client.get(signed(image_id, expires))) == NOT_FOUND


async def test_the_old_key_still_opens_and_an_unknown_one_does_not(house: House) -> None:
    image_id = await house.image()
    assert (await house.client.get(signed(image_id, soon(), OLD_KEY))).status_code == 200
    unknown = signed(image_id, soon(), "a key that this server never had")
    assert code_of(await house.client.get(unknown)) == NOT_FOUND
    other_purpose = signed(image_id, soon(), purpose="something else")
    assert code_of(await house.client.get(other_purpose)) == NOT_FOUND


async def test_what_is_no_link_opens_nothing(house: House) -> None:
    image_id, expires = await house.image(), soon()
    right = signed(image_id, expires)
    address, _, query = right.partition("?")
    signature = query.rpartition("=")[2]
    wrong = [
        f"expires={expires}",
        f"signature={signature}",
        f"expires=&signature={signature}",
        f"expires={expires}&signature=",
        f"expires={expires + 1}&signature={signature}",
        f"expires={expires}&signature={signature[:-1]}",
        f"expires={expires}&signature={signature}=",
        f"expires={expires}&signature={signature}%00",
        f"expires=%2B{expires}&signature={signature}",
        f"expires=0{expires}&signature={signature}",
        f"expires=%20{expires}&signature={signature}",
        f"expires={expires}.0&signature={signature}",
        f"expires=-1&signature={signature}",
        f"expires=1e12&signature={signature}",
        f"expires=%D9%A1%D9%A2&signature={signature}",
        "expires=%FF%FE&signature=%FF%FE",
        f"expires={'9' * 3_000}&signature={signature}",
        f"expires={expires}&signature={'A' * 3_000}",
        f"expires={expires}&signature=%F0%9F%94%91",
        f"expires={expires}&signature={signature}&expires={expires}",
        f"expires={expires}&signature={signature}&signature={signature}",
        f"expires={expires}&signature=x&signature={signature}",
        f"Expires={expires}&Signature={signature}",
        f"expires[]={expires}&signature={signature}",
        "&=&;%",
        "expires&signature",
    ]
    answers = {part: await house.client.get(f"{address}?{part}") for part in wrong}
    assert {part: code_of(answer) for part, answer in answers.items()} == dict.fromkeys(wrong, NOT_FOUND)
    assert (await house.client.get(right)).status_code == 200


async def test_what_makes_a_signature_right_cannot_be_signed_by_a_link(house: House) -> None:
    """No request can have the server sign an end beyond seven days, or one without an end."""
    image_id = await house.image()
    for seconds in (0, -1, 604_801, 10**30):
        assert code_of(await house.ask(image_id, OWNER, {"expires_in": seconds})) == (400, "INVALID_REQUEST")
    assert (await house.ask(image_id, OWNER, {"expires_in": 604_800})).status_code == 201


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(query=st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=60))
async def test_junk_is_no_link(house: House, private: str, query: str) -> None:
    assert code_of(await house.client.get(f"{private}?{query}")) == NOT_FOUND


@pytest.fixture(scope="session")
async def private(house: House) -> str:
    return f"/api/v1/images/{await house.image()}/file"


async def test_a_wrong_link_hides_nothing_that_is_visible_anyway(house: House) -> None:
    address = f"/api/v1/images/{house.uploaded}/file"
    for query in ("expires=1&signature=x", "expires=9999999999&signature=", "signature=%FF&signature=1"):
        answer = await house.client.get(f"{address}?{query}")
        assert (answer.status_code, answer.headers["cache-control"]) == (
            200,
            "public, max-age=31536000, immutable",
        )
    owned = f"/api/v1/images/{await house.image()}/file?expires=1&signature=x"
    assert (await house.client.get(owned, headers=signed_in(OWNER))).status_code == 200


async def test_a_link_to_an_image_that_is_gone_is_not_found(house: House) -> None:
    image_id = await house.image()
    link = await house.link(image_id)
    assert (await house.client.get(link)).status_code == 200
    deleted = await house.client.delete(f"/api/v1/images/{image_id}", headers=signed_in(OWNER))
    assert deleted.status_code == 204
    assert code_of(await house.client.get(link)) == NOT_FOUND
    assert code_of(await house.ask(image_id, OWNER)) == NOT_FOUND


async def test_a_link_lives_no_longer_than_its_image(house: House) -> None:
    now = datetime.now(UTC)
    image_id = await house.image(expires_at=now + timedelta(seconds=30))
    answer = await house.ask(image_id, OWNER)
    assert datetime.fromisoformat(answer.json()["expires_at"]) <= now + timedelta(seconds=30)
    expired = await house.image(expires_at=now - timedelta(seconds=1))
    assert code_of(await house.client.get(signed(expired, soon()))) == NOT_FOUND
    assert code_of(await house.ask(expired, OWNER)) == NOT_FOUND


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{}", b"[]", b"null", b"60", b'"expires_in"', b"{", b"\xff", b'{"expires_in": "60"}'),
        *(b'{"expires_in": null}', b'{"expires_in": true}', b'{"expires_in": 1.5}', b'{"expires_in": NaN}'),
        *(b'{"Expires_in": 60}', b"expires_in=60", b'{"expires_in": 60} x', b"[" * 16_000),
        b'{"a":' * 2700 + b"1" + b"}" * 2700,
    ],
    ids=range(18),
)
async def test_a_body_that_is_not_as_described_is_refused(house: House, content: bytes) -> None:
    answer = await house.ask(await house.image(), OWNER, content=content)
    assert code_of(answer) == (400, "INVALID_REQUEST")


async def test_a_body_without_end_is_refused(house: House) -> None:
    answer = await house.ask(await house.image(), OWNER, content=b'{"expires_in": 60}' + b" " * 16_384)
    assert code_of(answer) == (413, "REQUEST_TOO_LARGE")


async def test_a_link_is_absolute_where_the_server_knows_its_address(house: House) -> None:
    image_id = await house.image()
    changed = msgspec.structs.replace(house.settings, public_base_url="https://pictures.example.org/")
    async with in_process(changed, People()) as client:
        answer = await client.post(
            f"/api/v1/images/{image_id}/links", headers=signed_in(OWNER), json={"expires_in": 60}
        )
        url = answer.json()["url"]
        assert url.startswith(f"https://pictures.example.org/api/v1/images/{image_id}/file?expires=")
        assert (await client.get(url)).status_code == 200

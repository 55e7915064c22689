"""Listing, changing and verifying over HTTP, and what is written down of administrators."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from chitram.accounts.domain.principal import Scope
from tests.support.accounts import Account
from tests.support.owning import House, StartHouse, code_of
from tests.support.photos import jpeg, png, unique

BAD_REQUEST, FORBIDDEN = (400, "INVALID_REQUEST"), (403, "FORBIDDEN")


@pytest.fixture(scope="module")
async def collector(house: House) -> Account:
    """Somebody with seven images, of which one is private, one public, and one a PNG."""
    somebody = await house.accounts.somebody()
    for visibility in ("private", "public", *["unlisted"] * 4):
        await house.image(somebody, visibility=visibility)
    answer = await house.client.post(
        "/api/v1/images/upload", files={"file": ("a.png", png())}, headers=somebody.headers
    )
    assert answer.status_code == 201
    return somebody


async def ids(house: House, who: Account, **query: Any) -> list[str]:
    answer = await house.ask("GET", "", who, params=query)
    assert answer.status_code == 200, answer.text
    return [item["id"] for item in answer.json()["items"]]


async def test_a_list_has_whole_images_newest_first_on_pages_that_meet(
    house: House, collector: Account
) -> None:
    everything = await house.ask("GET", "", collector)
    assert everything.headers["cache-control"] == "private, no-store"
    body = everything.json()
    assert body["next_cursor"] is None
    items = body["items"]
    assert len(items) == 7
    moments = [item["created_at"] for item in items]
    assert moments == sorted(moments, reverse=True)
    for item in items:
        assert item == (await house.ask("GET", f"/{item['id']}", collector)).json()
    for limit in (1, 3, 6, 7, 100):
        found, cursor = [], None
        while True:
            query = {"limit": limit} | ({"cursor": cursor} if cursor else {})
            page = (await house.ask("GET", "", collector, params=query)).json()
            assert len(page["items"]) <= limit
            found += page["items"]
            cursor = page["next_cursor"]
            if cursor is None:
                break
            assert len(page["items"]) == limit
        assert found == items


async def test_a_list_is_filtered(house: House, collector: Account) -> None:
    items = (await house.ask("GET", "", collector)).json()["items"]
    everything = [item["id"] for item in items]
    for visibility, count in (("private", 1), ("public", 1), ("unlisted", 5)):
        assert len(await ids(house, collector, visibility=visibility)) == count
    assert await ids(house, collector, content_type="image/png") == everything[:1]
    assert await ids(house, collector, content_type="image/jpeg", visibility="private") == everything[-1:]
    third = items[2]["created_at"]
    assert await ids(house, collector, created_before=third) == everything[3:]
    assert await ids(house, collector, created_after=third) == everything[:2]
    elsewhere = datetime.fromisoformat(third).astimezone().isoformat()
    assert await ids(house, collector, created_after=elsewhere) == everything[:2]


async def test_an_image_that_has_expired_is_listed_no_more(house: House) -> None:
    somebody = await house.accounts.somebody()
    image_id = await house.image(somebody, expires_in="3600")
    assert await ids(house, somebody) == [image_id]
    await house.accounts.connection.execute(
        "UPDATE images SET expires_at = now() WHERE id = $1::uuid", image_id
    )
    assert await ids(house, somebody) == []


@pytest.mark.parametrize(
    "query",
    [
        *("limit=0", "limit=101", "limit=-1", "limit=x", "limit=", "limit=1.5"),
        *(f"limit={'9' * 4000}", "limit=%D9%A3", "visibility=secret", "visibility="),
        *("content_type=image/gif", "content_type=", "created_after=yesterday", "created_after="),
        *("created_after=2026-11-22", "created_after=2026-11-22T10:00:00", "created_before=1763800000"),
        *("created_after=0001-01-01T00:00:00%2B23:59", "created_before=9999-12-31T23:59:59-23:59"),
        *(f"created_after={'2' * 60}", "created_after=2026-02-30T00:00:00Z", "all_owners=perhaps"),
        *("owner_id=me", "owner_id=", "all_owners=true&owner_id=01a20406-66a0-711c-ab4d-9b7193034690"),
        *("cursor=", "cursor=x", "cursor=%FF", f"cursor={'A' * 65}", f"cursor={'A' * 4000}"),
    ],
    ids=range(30),
)
async def test_a_query_that_means_nothing_is_refused(house: House, query: str) -> None:
    answer = await house.client.get(f"/api/v1/images?{query}", headers=house.admin.headers)
    assert code_of(answer) == BAD_REQUEST


async def test_a_cursor_is_good_for_its_own_list_and_unchanged_alone(
    house: House, collector: Account
) -> None:
    page = (await house.ask("GET", "", collector, params={"limit": 2})).json()
    cursor = page["next_cursor"]
    again = {"limit": 2, "cursor": cursor}
    assert (await house.ask("GET", "", collector, params=again)).status_code == 200
    for place in range(0, len(cursor), 4):
        other = "A" if cursor[place] != "A" else "B"
        changed = {"cursor": cursor[:place] + other + cursor[place + 1 :]}
        assert code_of(await house.ask("GET", "", collector, params=changed)) == BAD_REQUEST
    for wrong in (cursor[:-1], cursor + "A", cursor + "=", cursor.swapcase(), page["items"][0]["id"]):
        assert code_of(await house.ask("GET", "", collector, params={"cursor": wrong})) == BAD_REQUEST
    assert code_of(await house.ask("GET", "", house.stranger, params=again)) == BAD_REQUEST
    elsewhere = again | {"all_owners": "true"}
    assert code_of(await house.ask("GET", "", house.admin, params=elsewhere)) == BAD_REQUEST


async def test_only_administrators_list_what_is_not_theirs(house: House, collector: Account) -> None:
    assert code_of(await house.ask("GET", "")) == (401, "NOT_AUTHENTICATED")
    others: list[dict[str, str]] = [{"owner_id": str(collector.id)}, {"all_owners": "true"}]
    for query in others:
        assert code_of(await house.ask("GET", "", house.stranger, params=query)) == FORBIDDEN
        assert code_of(await house.ask("GET", "", params=query)) == (401, "NOT_AUTHENTICATED")
        plain = await house.accounts.key(house.admin, Scope.READ)
        assert code_of(await house.ask("GET", "", plain, params=query)) == FORBIDDEN
    assert await ids(house, collector, owner_id=str(collector.id)) == await ids(house, collector)
    anonymous = await house.image(None)
    assert len(await ids(house, house.admin, owner_id=str(collector.id))) == 7
    assert (await ids(house, house.admin, all_owners="true", limit=1)) == [anonymous]
    assert (house.admin.id, "image.list") in await house.accounts.audited(f"user:{collector.id}")
    assert (house.admin.id, "image.list") in await house.accounts.audited("images")


async def test_a_change_is_answered_with_the_image_and_seen_by_the_next_read(house: House) -> None:
    image_id = await house.image(house.owner)
    before = (await house.ask("GET", f"/{image_id}")).json()
    change = {"filename": "/home/అ\u202egpj.exe", "visibility": "public"}
    answer = await house.ask("PATCH", f"/{image_id}", house.owner, json=change)
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "private, no-store")
    after = answer.json()
    assert after["filename"] == "అgpj.exe"
    assert after["updated_at"] > before["updated_at"]
    changed = {name: after[name] for name in ("filename", "visibility", "updated_at")}
    assert after == before | changed
    assert (await house.ask("GET", f"/{image_id}")).json() == after
    assert (await house.ask("PATCH", f"/{image_id}", house.owner, json={})).json() == after
    disposition = (await house.ask("GET", f"/{image_id}/file")).headers["content-disposition"]
    assert "gpj.exe" in disposition


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"[]", b"null", b"{", b"\xff", b'{"filename": 1}', b'{"filename": null}'),
        *(b'{"visibility": "secret"}', b'{"visibility": null}', b'{"owner_id": null}', b'{"Filename": "a"}'),
        *(b'{"expires_at": null}', b"filename=a.jpg", b"[" * 16_000, b'{"filename": "\\ud800"}'),
    ],
    ids=range(15),
)
async def test_a_change_that_is_not_as_described_is_refused(house: House, content: bytes) -> None:
    image_id = await house.image(house.owner)
    answer = await house.ask("PATCH", f"/{image_id}", house.owner, content=content)
    assert code_of(answer) == BAD_REQUEST
    assert (await house.ask("GET", f"/{image_id}")).json()["filename"] == "a.jpg"


async def test_of_many_changes_at_once_none_is_lost(house: House) -> None:
    image_id = await house.image(house.owner)
    changes: list[dict[str, str]] = [{"filename": f"{number}.jpg"} for number in range(20)]
    changes.append({"visibility": "public"})
    answers = await asyncio.gather(
        *(house.ask("PATCH", f"/{image_id}", house.owner, json=change) for change in changes)
    )
    assert {answer.status_code for answer in answers} == {200}
    version = await house.accounts.connection.fetchval(
        "SELECT version FROM images WHERE id = $1::uuid", image_id
    )
    assert version == 1 + len(changes)
    assert (await house.ask("GET", f"/{image_id}")).json()["visibility"] == "public"


async def test_a_delete_token_gives_no_right_to_change(house: House) -> None:
    body = (await house.upload()).json()
    token = {"x-delete-token": body["delete_token"]}
    for who in ({}, house.stranger.headers):
        answer = await house.ask("PATCH", f"/{body['id']}", {**who, **token}, json={"filename": "b.jpg"})
        assert code_of(answer) == (FORBIDDEN if who else (401, "NOT_AUTHENTICATED"))
    private = await house.ask("PATCH", f"/{body['id']}", house.admin, json={"visibility": "private"})
    assert code_of(private) == BAD_REQUEST


async def test_stored_bytes_are_verified(house: House) -> None:
    image = (await house.upload(house.owner, visibility="private")).json()
    intact = await house.ask("POST", f"/{image['id']}/verify", house.owner)
    assert (intact.status_code, intact.headers["cache-control"]) == (200, "private, no-store")
    body = intact.json()
    assert datetime.fromisoformat(body.pop("verified_at")).tzinfo
    checksum = image["checksum"]
    assert body == {"id": image["id"], "intact": True, "checksum": checksum, "expected": checksum}


@pytest.mark.parametrize("damage", ["changed", "cut", "missing"])
async def test_damage_is_found_and_kept_with_the_blob(house: House, damage: str) -> None:
    somebody = await house.accounts.somebody()
    answer = await house.client.post(
        "/api/v1/images", content=unique_photo(), params={"filename": "a.jpg"}, headers=somebody.headers
    )
    image = answer.json()
    blob_id: UUID = await house.accounts.connection.fetchval(
        "SELECT blob_id FROM images WHERE id = $1::uuid", image["id"]
    )
    [path] = (house.api.data_dir / "objects").rglob(f"*{blob_id}")
    content = {"changed": path.read_bytes()[:-3] + b"???", "cut": path.read_bytes()[:-3], "missing": None}
    found = content[damage]
    path.unlink()
    if found is not None:
        path.write_bytes(found)
        path.chmod(0o644)
    body = (await house.ask("POST", f"/{image['id']}/verify", somebody)).json()
    assert body["intact"] is False
    assert body["expected"] == image["checksum"]
    assert body["checksum"] == (hashlib.sha256(found).hexdigest() if found is not None else None)
    marks = await house.accounts.connection.fetchrow(
        "SELECT verified_at, damaged_at FROM blobs WHERE id = $1", blob_id
    )
    assert marks["verified_at"] == marks["damaged_at"] == datetime.fromisoformat(body["verified_at"])


def unique_photo() -> bytes:
    """A photo whose blob no other test shares."""
    return unique(jpeg(), uuid4().int & 0xFFFF_FFFF)


async def test_what_an_administrator_sees_of_others_is_written_down_request_by_request(
    house: House,
) -> None:
    image_id = await house.image(house.owner, visibility="private")
    subject = f"image:{image_id}"
    reads = [("GET", ""), ("HEAD", ""), ("GET", "/file"), ("HEAD", "/file"), ("GET", "/optimised")]
    for who in (house.owner, house.stranger):
        for method, resource in reads:
            await house.ask(method, f"/{image_id}{resource}", who)
    assert await house.accounts.audited(subject) == []
    for method, resource in reads:
        await house.ask(method, f"/{image_id}{resource}", house.admin)
    admin = house.admin.id
    rows = await house.accounts.connection.fetch(
        "SELECT actor_id, action, details FROM audit_log WHERE subject = $1", subject
    )
    assert {(row["actor_id"], row["action"]) for row in rows} == {(admin, "image.read")}
    assert sorted((given["method"], given["path"]) for given in map(details_of, rows)) == sorted(
        (method, f"/api/v1/images/{image_id}{resource}") for method, resource in reads
    )
    assert all(details_of(row)["owner_id"] == str(house.owner.id) for row in rows)


def details_of(row: Any) -> dict[str, Any]:
    details: dict[str, Any] = json.loads(row["details"])
    return details


async def test_what_an_administrator_does_to_others_is_written_down_and_what_to_their_own_is_not(
    house: House,
) -> None:
    theirs, mine = await house.image(house.owner), await house.image(house.admin)
    for image_id in (theirs, mine):
        assert (await house.ask("GET", f"/{image_id}", house.admin)).status_code == 200
        await house.ask("POST", f"/{image_id}/links", house.admin, json={"expires_in": 60})
        await house.ask("POST", f"/{image_id}/verify", house.admin)
        await house.ask("PATCH", f"/{image_id}", house.admin, json={"filename": "b.jpg"})
        assert (await house.ask("DELETE", f"/{image_id}", house.admin)).status_code == 204
    actions = ["image.link", "image.verify", "image.change", "image.delete"]
    assert await house.accounts.audited(f"image:{theirs}") == [(house.admin.id, action) for action in actions]
    assert await house.accounts.audited(f"image:{mine}") == []


@pytest.fixture(scope="module")
async def audited(start_house: StartHouse) -> AsyncIterator[House]:
    async with start_house() as started:
        yield started


async def test_the_audit_log_is_printed_newest_first(audited: House) -> None:
    images = [await audited.image(audited.owner) for _ in range(3)]
    for image_id in images:
        await audited.ask("DELETE", f"/{image_id}", audited.admin)
    whole = await admin_command(audited, "audit")
    assert len(whole) == 3
    for line, image_id in zip(whole, reversed(images), strict=True):
        assert f"{audited.admin.id}  image.delete  image:{image_id}" in line
        assert f'"owner_id": "{audited.owner.id}"' in line
    await audited.ask("GET", "", audited.admin, params={"all_owners": "true"})
    one = ("--limit", "1", "--subject", f"image:{images[0]}")
    assert await admin_command(audited, "audit", *one) == whole[2:]


async def admin_command(house: House, *arguments: str) -> list[str]:
    """Lines that a command for administrators prints."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "chitram.main.cli", "admin", *arguments),
        stdout=asyncio.subprocess.PIPE,
        env={
            "CHITRAM_DATABASE_URL": house.api.database_url,
            "CHITRAM_DATA_DIR": str(house.api.data_dir),
            "PATH": "/usr/bin:/bin",
        },
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output.decode().splitlines()

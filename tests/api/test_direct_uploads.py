"""Direct uploads over HTTP: put into quarantine, in a folder or a bucket, then completed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from chitram.images.adapters.quarantine import ObjectQuarantine
from chitram.images.domain.image import ImageFormat
from chitram.images.use_cases.begin_upload import DirectUploadRules
from chitram.images.use_cases.clear_uploads import ClearUploads
from chitram.platform.objects.local import LocalStore
from chitram.platform.objects.registry import ObjectStores
from chitram.platform.objects.remote import RemoteStore
from chitram.platform.signing import Signer
from tests.api.conftest import StartApi
from tests.support.api import Api
from tests.support.connections import connection
from tests.support.database import Database
from tests.support.fakes import FakeClock
from tests.support.photos import HTML, jpeg, pixels, png
from tests.support.proxy import Mode, Proxy
from tests.support.seaweed import Seaweed, url_of

UPLOADS = "/api/v1/uploads"
LIMIT = 5_242_880
KEY = "a-key-that-only-tests-ever-sign-with"


@dataclass
class Site:
    """A running API and the store behind it."""

    api: Api

    def stores(self) -> ObjectStores:
        if self.api.bucket:
            return ObjectStores([RemoteStore("s3", self.api.bucket)])
        return ObjectStores([LocalStore("local", self.api.data_dir / "objects")])

    async def begin(self, **body: object) -> dict[str, Any]:
        answer = await self.api.client.post(UPLOADS, json=body)
        assert answer.status_code == 201, answer.text
        begun: dict[str, Any] = answer.json()
        return begun

    async def put(self, begun: Mapping[str, Any], content: bytes) -> httpx.Response:
        return await self.api.client.request(
            begun["method"], begun["url"], content=content, headers=begun["headers"]
        )

    async def begun_and_put(self, content: bytes, **body: object) -> dict[str, Any]:
        begun = await self.begin(**body)
        answer = await self.put(begun, content)
        assert answer.is_success, answer.text
        return begun

    async def complete(self, begun: Mapping[str, Any], **headers: str) -> httpx.Response:
        return await self.api.client.post(
            f"{UPLOADS}/{begun['upload_id']}/complete",
            headers={"x-upload-token": begun["upload_token"], **headers},
        )

    async def quarantined(self) -> list[str]:
        stores = self.stores()
        try:
            return [found.key async for found in stores.primary.list("quarantine/")]
        finally:
            await stores.aclose()

    async def clear(self, **later: float) -> int:
        """Clear up as the worker does, at a later time."""
        stores, database, clock = self.stores(), await Database.open(self.api.database_url), FakeClock()
        clock.advance(**later)
        rules = DirectUploadRules(
            life=timedelta(minutes=15), max_bytes=LIMIT, read_seconds=5, formats=tuple(ImageFormat)
        )
        quarantine = ObjectQuarantine(stores, self.api.data_dir / "spool")
        try:
            return await ClearUploads(database.transactions, quarantine, clock, rules)()
        finally:
            await database.aclose()
            await stores.aclose()


@contextlib.asynccontextmanager
async def site_of(start_api: StartApi, **settings: object) -> AsyncIterator[Site]:
    async with start_api(**settings) as api:
        yield Site(api)


@pytest.fixture(scope="module")
async def site(start_api: StartApi) -> AsyncIterator[Site]:
    """An API of two workers, shared by the tests of this module."""
    async with site_of(start_api) as site:
        yield site


def code_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


async def test_what_is_put_and_completed_is_an_image_like_any_other(site: Site) -> None:
    content = jpeg(320, 240)
    answer = await site.api.client.post(
        UPLOADS,
        json={
            "filename": "holiday.jpg",
            "content_type": "image/jpeg",
            "visibility": "public",
            "expires_in": 3600,
            "file_size": len(content),
        },
    )
    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
    begun = answer.json()
    assert answer.headers["location"] == f"{UPLOADS}/{begun['upload_id']}"
    assert set(begun) == {"upload_id", "url", "method", "headers", "expires_at", "upload_token"}
    left = datetime.fromisoformat(begun["expires_at"]) - datetime.now(UTC)
    assert timedelta(seconds=890) < left <= timedelta(seconds=900)

    assert (await site.put(begun, content)).status_code in {200, 204}
    completed = await site.complete(begun)
    assert completed.status_code == 201, completed.text
    image = completed.json()
    assert completed.headers["location"] == f"/api/v1/images/{image['id']}"
    assert (image["filename"], image["visibility"]) == ("holiday.jpg", "public")
    assert (image["width"], image["height"]) == (320, 240)
    life = datetime.fromisoformat(image["expires_at"]) - datetime.fromisoformat(image["created_at"])
    assert life == timedelta(hours=1)
    file = await site.api.client.get(image["url"])
    assert (pixels(file.content) == pixels(content)).all()
    assert await site.quarantined() == []
    gone = await site.api.client.delete(
        completed.headers["location"], headers={"x-delete-token": image["delete_token"]}
    )
    assert gone.status_code == 204


async def test_a_begin_without_a_body_takes_the_defaults(site: Site) -> None:
    answer = await site.api.client.post(UPLOADS)
    begun = answer.json()
    await site.put(begun, jpeg())
    image = (await site.complete(begun)).json()
    assert (image["filename"], image["visibility"], image["expires_at"]) == ("image.jpg", "unlisted", None)


async def test_the_token_may_come_in_the_body(site: Site) -> None:
    begun = await site.begun_and_put(jpeg())
    answer = await site.api.client.post(
        f"{UPLOADS}/{begun['upload_id']}/complete", json={"upload_token": begun["upload_token"]}
    )
    assert answer.status_code == 201


@pytest.mark.parametrize(
    ("token", "code"), [(None, "UPLOAD_TOKEN_REQUIRED"), ("guess", "INVALID_UPLOAD_TOKEN")]
)
async def test_without_its_token_an_upload_is_not_completed(site: Site, token: str | None, code: str) -> None:
    begun = await site.begun_and_put(jpeg())
    other = await site.begin()
    for given in {token, token and other["upload_token"]}:
        answer = await site.api.client.post(
            f"{UPLOADS}/{begun['upload_id']}/complete", headers={"x-upload-token": given} if given else {}
        )
        assert code_of(answer) == (403, code)
    assert (await site.complete(begun)).status_code == 201


@pytest.mark.parametrize(
    "upload_id",
    [
        "01900000-0000-7000-8000-000000000000",
        "x",
        "%00",
        "%7B01900000-0000-7000-8000-000000000000%7D",
        "01900000000070008000000000000000",
        "%F0%9F%A6%9A",
    ],
)
async def test_an_unknown_upload_is_not_found(site: Site, upload_id: str) -> None:
    answer = await site.api.client.post(
        f"{UPLOADS}/{upload_id}/complete", headers={"x-upload-token": "guess"}
    )
    assert code_of(answer) == (404, "UPLOAD_NOT_FOUND")


async def test_the_id_of_an_upload_shows_nothing_anywhere(site: Site) -> None:
    begun = await site.begun_and_put(jpeg())
    upload_id = begun["upload_id"]
    for path in ("", "/file", "/thumbnail", "/optimised"):
        answer = await site.api.client.get(f"/api/v1/images/{upload_id}{path}")
        assert answer.status_code == 404, path
    for path in (f"{UPLOADS}/{upload_id}", f"/quarantine/{upload_id}", f"/objects/quarantine/{upload_id}"):
        assert (await site.api.client.get(path)).status_code == 404, path
    assert (await site.api.client.delete(f"/api/v1/images/{upload_id}")).status_code == 404
    for method in ("GET", "HEAD", "DELETE", "POST"):
        answer = await site.api.client.request(method, begun["url"])
        assert answer.status_code in {403, 405}, method
    assert (await site.complete(begun)).status_code == 201


async def test_what_was_not_put_cannot_be_completed(site: Site) -> None:
    begun = await site.begin()
    assert code_of(await site.complete(begun)) == (409, "UPLOAD_NOT_RECEIVED")


@pytest.mark.parametrize(
    ("make", "status", "code"),
    [
        (lambda: HTML, 415, "INVALID_FILE_FORMAT"),
        (lambda: jpeg(640, 480)[:-2000], 422, "CORRUPT_IMAGE"),
        (lambda: b"\xff\xd8\xff" + bytes(1000), 422, "CORRUPT_IMAGE"),
        (png, 415, "CONTENT_TYPE_MISMATCH"),
    ],
    ids=["html", "truncated", "corrupt", "other_type"],
)
async def test_a_refused_content_makes_no_image_and_another_may_be_put(
    site: Site, make: Callable[[], bytes], status: int, code: str
) -> None:
    before = await site.api.rows("images"), await site.api.rows("blobs")
    begun = await site.begun_and_put(make(), content_type="image/jpeg")
    for _ in range(2):
        assert code_of(await site.complete(begun)) == (status, code)
    assert (await site.api.rows("images"), await site.api.rows("blobs")) == before
    assert (await site.put(begun, jpeg())).is_success
    assert (await site.complete(begun)).status_code == 201


async def test_the_digest_of_what_was_put_is_compared(site: Site) -> None:
    begun = await site.begun_and_put(jpeg())
    for digest, code in ((f":{'A' * 43}=:", "DIGEST_MISMATCH"), ("x", "INVALID_REQUEST")):
        answer = await site.complete(begun, **{"repr-digest": f"sha-256={digest}"})
        assert code_of(answer) == (400, code)
    assert (await site.complete(begun)).status_code == 201


async def test_a_file_over_the_limit_never_becomes_an_image(site: Site) -> None:
    begun = await site.begin()
    put = await site.put(begun, bytes(LIMIT + 1))
    if put.is_success:  # a bucket does not know the limit
        answer = await site.complete(begun)
        assert answer.json()["error"]["details"] == {"max_bytes": LIMIT}
        assert await site.clear() == 1
    else:
        answer = put
    assert code_of(answer) == (413, "FILE_TOO_LARGE")
    assert code_of(await site.complete(begun)) == (409, "UPLOAD_NOT_RECEIVED")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"[]", 400, "INVALID_REQUEST"),
        (b"null", 400, "INVALID_REQUEST"),
        (b"{", 400, "INVALID_REQUEST"),
        (b'{"filename": "\xff"}', 400, "INVALID_REQUEST"),
        (b'{"filename": "\\ud800"}', 400, "INVALID_REQUEST"),
        (b'{"filename": 7}', 400, "INVALID_REQUEST"),
        (b'{"other": 1}', 400, "INVALID_REQUEST"),
        (b"[" * 16384, 400, "INVALID_REQUEST"),
        (b'{"x":' * 3000, 400, "INVALID_REQUEST"),
        (b'{"expires_in": NaN}', 400, "INVALID_REQUEST"),
        (b'{"expires_in": 1.5}', 400, "INVALID_REQUEST"),
        (b'{"expires_in": "60"}', 400, "INVALID_REQUEST"),
        (b'{"expires_in": 0}', 400, "INVALID_REQUEST"),
        (b'{"expires_in": %s}' % (b"9" * 4000), 400, "INVALID_REQUEST"),
        (b'{"visibility": "secret"}', 400, "INVALID_REQUEST"),
        (b'{"visibility": "private"}', 400, "INVALID_REQUEST"),
        (b'{"file_size": -1}', 400, "INVALID_REQUEST"),
        (b'{"file_size": %d}' % (LIMIT + 1), 413, "FILE_TOO_LARGE"),
        (b'{"file_size": 99999999999999999999}', 413, "FILE_TOO_LARGE"),
        (b'{"content_type": "text/html"}', 415, "INVALID_FILE_FORMAT"),
        (b'{"content_type": "image/svg+xml"}', 415, "INVALID_FILE_FORMAT"),
        (b" " * 16385, 413, "REQUEST_TOO_LARGE"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_a_begin_that_is_not_right_is_refused(site: Site, body: bytes, status: int, code: str) -> None:
    begun = await site.api.rows("uploads")
    answer = await site.api.client.post(UPLOADS, content=body)
    assert code_of(answer) == (status, code)
    assert await site.api.rows("uploads") == begun


async def test_a_body_without_an_announced_length_is_limited_too(site: Site) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" " * 1000

    assert code_of(await site.api.client.post(UPLOADS, content=endless())) == (413, "REQUEST_TOO_LARGE")


async def test_a_name_may_hold_anything(site: Site) -> None:
    begun = await site.begun_and_put(jpeg(), filename="../\0\u202eచిత్రం.jpg")
    assert (await site.complete(begun)).json()["filename"] == "చిత్రం.jpg"


@pytest.mark.parametrize("body", [b'{"upload_token": 1}', b"[]", b'{"x": 1}', b"{" * 16384])
async def test_a_completion_that_is_not_right_is_refused(site: Site, body: bytes) -> None:
    begun = await site.begin()
    answer = await site.api.client.post(f"{UPLOADS}/{begun['upload_id']}/complete", content=body)
    assert code_of(answer) == (400, "INVALID_REQUEST")


async def test_an_upload_is_completed_once(site: Site) -> None:
    begun = await site.begun_and_put(jpeg(32, 24))
    image = (await site.complete(begun)).json()
    again = await site.complete(begun)
    assert code_of(again) == (409, "UPLOAD_ALREADY_COMPLETED")
    assert again.json()["error"]["details"] == {"image_id": image["id"]}
    # A bucket's own address lives on; whatever is put there changes nothing and is cleared away.
    await site.put(begun, jpeg(64, 48))
    assert code_of(await site.complete(begun)) == (409, "UPLOAD_ALREADY_COMPLETED")
    file = await site.api.client.get(image["url"])
    assert pixels(file.content).shape[:2] == (24, 32)


async def test_of_many_completions_at_once_one_makes_the_image(site: Site) -> None:
    for round_ in range(5):
        images = await site.api.rows("images")
        begun = await site.begun_and_put(jpeg(100 + round_, 80))
        answers = await asyncio.gather(*(site.complete(begun) for _ in range(6)))
        refused = [answer for answer in answers if answer.status_code != 201]
        assert len(refused) == 5
        assert {code_of(answer) for answer in refused} == {(409, "UPLOAD_ALREADY_COMPLETED")}
        assert await site.api.rows("images") == images + 1


async def test_what_is_put_during_a_completion_is_taken_whole_or_not_at_all(site: Site) -> None:
    for round_ in range(5):
        first, second = jpeg(300 + round_, 200), jpeg(200, 300 + round_)
        begun = await site.begun_and_put(first)
        completing = asyncio.create_task(site.complete(begun))
        await site.put(begun, second)
        answer = await completing
        # A bucket may see the object change while it is read.
        while answer.status_code == 503:
            answer = await site.complete(begun)
        assert answer.status_code == 201, answer.text
        file = await site.api.client.get(answer.json()["url"])
        assert any(
            pixels(file.content).shape == pixels(content).shape
            and (pixels(file.content) == pixels(content)).all()
            for content in (first, second)
        )


async def test_what_is_never_completed_is_removed(site: Site) -> None:
    await site.begun_and_put(jpeg())
    completed = await site.begun_and_put(jpeg())
    image = (await site.complete(completed)).json()
    await site.begin()
    assert await site.api.rows("uploads") >= 3
    await site.clear(minutes=19)
    assert await site.api.rows("uploads") >= 3
    await site.clear(minutes=21)
    assert await site.api.rows("uploads") == 0
    assert await site.quarantined() == []
    assert (await site.api.client.get(image["url"])).status_code == 200


only_local = pytest.mark.only_over("local", reason="a bucket has addresses of its own")


@pytest.fixture(scope="module")
async def local(start_api: StartApi) -> AsyncIterator[Site]:
    async with site_of(start_api, HTTP_WORKERS=1, PUBLIC_BASE_URL="http://images.example") as site:
        yield site


@only_local
async def test_an_address_of_the_application_names_the_public_server(local: Site) -> None:
    begun = await local.begin()
    assert begun["url"].startswith(f"http://images.example{UPLOADS}/{begun['upload_id']}/content?")


@only_local
async def test_only_an_address_that_was_handed_out_takes_bytes(local: Site) -> None:
    begun, other = await local.begin(), await local.begin()
    url = httpx.URL(begun["url"])
    path, right = url.path, dict(url.params)
    past = str(int(right["expires"]) - 901)
    signer = Signer((KEY,), "direct upload")
    wrong: list[tuple[str, dict[str, str]]] = [
        (path, {}),
        (path, {"expires": right["expires"]}),
        (path, {"signature": right["signature"]}),
        (path, right | {"expires": str(int(right["expires"]) + 1)}),
        (path, right | {"signature": right["signature"][:-1] + "%00"}),
        (path, {"expires": past, "signature": signer.sign(begun["upload_id"], past)}),
        (httpx.URL(other["url"]).path, right),
    ]
    for to, params in wrong:
        answer = await local.api.client.put(to, params=params, content=jpeg())
        assert code_of(answer) == (403, "INVALID_UPLOAD_ADDRESS")
    assert await local.quarantined() == []
    answer = await local.api.client.put(path, params=right, content=jpeg())
    assert (answer.status_code, answer.content) == (204, b"")


@only_local
async def test_an_upload_that_is_gone_takes_no_bytes(local: Site) -> None:
    begun = await local.begin()
    await local.clear(minutes=21)
    url = httpx.URL(begun["url"])
    answer = await local.api.client.put(url.path, params=url.params, content=jpeg())
    assert code_of(answer) == (404, "UPLOAD_NOT_FOUND")
    assert code_of(await local.complete(begun)) == (404, "UPLOAD_NOT_FOUND")


@only_local
async def test_a_put_that_stops_half_way_leaves_nothing(local: Site) -> None:
    begun = await local.begin()
    content, target = jpeg(640, 480), httpx.URL(begun["url"]).raw_path.decode()
    async with connection(*local.api.host) as (_, writer):
        writer.write(f"PUT {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n\r\n".encode())
        writer.write(content[:1000])
        await writer.drain()
    assert code_of(await local.complete(begun)) == (409, "UPLOAD_NOT_RECEIVED")
    assert await local.quarantined() == []


@only_local
async def test_nothing_is_begun_while_the_store_is_away(local: Site) -> None:
    objects = local.api.data_dir / "objects"
    objects.rename(local.api.data_dir / "unplugged")
    try:
        answer = await local.api.client.post(UPLOADS)
        assert code_of(answer) == (503, "STORAGE_UNAVAILABLE")
    finally:
        (local.api.data_dir / "unplugged").rename(objects)


@pytest.mark.only_over("s3", reason="a proxy sees what is asked")
async def test_a_kill_between_commit_and_clearing_up_leaves_an_image_and_later_nothing_else(
    start_api: StartApi, seaweed: Seaweed
) -> None:
    seaweed.clear()
    deleting = asyncio.Event()

    def hang_at_delete(data: bytes) -> None:
        if data.startswith(b"DELETE ") and b"/quarantine/" in data:
            proxy.mode = Mode.HANG
            deleting.set()

    async with Proxy(seaweed.endpoint, hang_at_delete) as proxy:
        url = url_of(replace(seaweed.bucket, endpoint=proxy.url))
        async with site_of(start_api, STORAGE_URLS=f"s3={url}") as site:
            site.api.bucket = seaweed.bucket
            begun = await site.begun_and_put(jpeg())
            completing = asyncio.create_task(site.complete(begun))
            async with asyncio.timeout(10):
                await deleting.wait()
            site.api.process.kill()
            with pytest.raises(httpx.TransportError):
                await completing
            assert await site.api.rows("images") == 1
            assert await site.quarantined() == [f"quarantine/{begun['upload_id']}"]
            assert await site.clear(minutes=21) == 1
            assert await site.quarantined() == []
            assert await site.api.rows("uploads") == 0
            assert len(site.api.objects()) == 1
    seaweed.clear()

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from datetime import UTC, datetime
from email.message import Message as Mail
from email.parser import BytesParser
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from litestar import Litestar, route
from litestar.testing import AsyncTestClient
from litestar.types import ASGIApp, Receive, Scope

from chitram.delivery.entrypoints.send import (
    CHUNK_BYTES,
    PreconditionFailed,
    RangeNotSatisfiable,
    SendObject,
)
from chitram.delivery.entrypoints.small_bodies import SMALL_BYTES, SmallBodies
from chitram.delivery.ports import SentByProxy, SentByStore
from chitram.delivery.representations import Representation
from chitram.kernel.errors import ChitramError, StorageUnavailable
from chitram.platform.http.errors import EXCEPTION_HANDLERS
from chitram.platform.http.head import RequestHead
from tests.http.asgi import Receiver, Sender, StoredObject, scope_of, sender

Answering = Callable[[Receive, Receiver], Coroutine[Any, Any, None]]
# The same everywhere: pytest names cases after it.
SMALL = random.Random(1).randbytes(1000)  # noqa: S311 - no secret
LARGE = random.Random(2).randbytes(SMALL_BYTES * 3 + 100_000)  # noqa: S311 - no secret
TAG = '"abc"'
CHANGED = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
SECURITY = {
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
    "cross-origin-resource-policy": "cross-origin",
}
VALIDATORS = {
    "etag": TAG,
    "last-modified": "Wed, 04 Mar 2026 05:06:07 GMT",
    "cache-control": "public, max-age=31536000, immutable",
}


class Other:
    """Somebody else who would send the object, when asked."""

    def __init__(self, sender: SentByProxy | SentByStore | None) -> None:
        self.asked = 0
        self._sender = sender

    async def hand_over(
        self, wanted: Representation, seconds: int | None
    ) -> SentByProxy | SentByStore | None:
        assert (wanted.checksum, seconds) == ("abc", 40)
        self.asked += 1
        return self._sender


def sending(scope: Scope, stored: StoredObject, size: int | None = None, **changes: Any) -> SendObject:
    chosen = Representation(
        blob_id=UUID(int=0),
        shard="local",
        key="a-key",
        media_type="image/jpeg",
        size=stored.size if size is None else size,
        checksum="abc",
        last_modified=CHANGED,
        filename="photo.jpg",
    )
    values: dict[str, Any] = {
        "chosen": chosen,
        "head": RequestHead(scope),
        "files": stored,
        "bodies": SmallBodies(),
        "delivery": Other(None),
        "cache_control": VALIDATORS["cache-control"],
        "seconds": 5.0,
        "visible_seconds": 40,
    }
    return SendObject(**{**values, **changes})


def answer_with(
    stored: StoredObject, headers: Mapping[str, str] | None = None, *, method: str = "GET", **changes: Any
) -> Answering:
    fields = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    scope = scope_of(method, fields)
    return partial(sending(scope, stored, **changes), scope)


async def answered(app: Answering) -> Receiver:
    client = Receiver()
    await app(sender(then="silence"), client)
    return client


async def test_the_whole_object_comes_with_every_header() -> None:
    stored = StoredObject(SMALL)
    answer = await answered(answer_with(stored))
    assert (answer.status, answer.body, answer.complete) == (200, SMALL, True)
    assert answer.headers == {
        "content-type": "image/jpeg",
        "content-length": "1000",
        "content-disposition": 'inline; filename="photo.jpg"',
        "accept-ranges": "bytes",
        **VALIDATORS,
        **SECURITY,
    }
    assert not stored.is_open


async def test_vary_is_told_where_the_representation_was_chosen() -> None:
    answer = await answered(answer_with(StoredObject(SMALL), vary="Accept"))
    assert answer.headers["vary"] == "Accept"


async def test_a_small_object_is_one_read_and_one_send() -> None:
    stored = StoredObject(LARGE[:SMALL_BYTES])
    answer = await answered(answer_with(stored))
    assert stored.reads == [(0, SMALL_BYTES)]
    assert len(answer.messages) == 2


async def test_a_small_object_that_is_asked_for_again_and_again_is_read_twice() -> None:
    stored, head = StoredObject(SMALL), scope_of()
    app = sending(head, stored)
    answers = [await answered(partial(app, head)) for _ in range(4)]
    assert stored.reads == [(0, len(SMALL))] * 2
    assert {(each.status, each.body, each.complete) for each in answers} == {(200, SMALL, True)}
    assert all(each.headers == answers[0].headers for each in answers)
    # The next look at the image is a look at its bytes.
    await answered(partial(sending(head, stored, bodies=app.bodies), head))
    assert stored.opened == 3


@pytest.mark.parametrize(
    ("method", "headers", "status", "body"),
    [
        ("HEAD", {}, 200, b""),
        ("GET", {"range": "bytes=0-9"}, 206, SMALL[:10]),
        ("GET", {"if-none-match": TAG}, 304, b""),
        ("GET", {"if-range": '"other"', "range": "bytes=0-9"}, 200, SMALL),
    ],
)
async def test_a_body_that_is_kept_answers_conditions_and_ranges_no_differently(
    method: str, headers: dict[str, str], status: int, body: bytes
) -> None:
    stored = StoredObject(SMALL)
    app = sending(scope_of(), stored)
    for _ in range(2):
        await answered(partial(app, scope_of()))
    fresh = await answered(answer_with(stored, headers, method=method))
    kept = await answered(answer_with(stored, headers, method=method, chosen=app.chosen, bodies=app.bodies))
    assert (kept.status, kept.body, kept.headers) == (status, body, fresh.headers)


async def test_a_large_object_is_sent_in_pieces() -> None:
    stored = StoredObject(LARGE)
    answer = await answered(answer_with(stored))
    assert (answer.body, answer.complete) == (LARGE, True)
    assert answer.headers["content-length"] == str(len(LARGE))
    assert max(length for _, length in stored.reads) == CHUNK_BYTES
    assert not stored.is_open


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("GET", {"if-none-match": TAG}, 304),
        ("HEAD", {"if-modified-since": VALIDATORS["last-modified"]}, 304),
        ("HEAD", {}, 200),
        ("HEAD", {"range": "bytes=0-1"}, 200),
    ],
)
async def test_an_answer_without_a_body_opens_nothing(
    method: str, headers: dict[str, str], status: int
) -> None:
    stored = StoredObject(SMALL)
    answer = await answered(answer_with(stored, headers, method=method))
    assert (answer.status, answer.body, answer.complete) == (status, b"", True)
    assert stored.opened == 0


async def test_not_modified_repeats_what_a_cache_needs() -> None:
    answer = await answered(answer_with(StoredObject(SMALL), {"if-none-match": TAG}, vary="Accept"))
    assert answer.headers == {**VALIDATORS, "vary": "Accept"}


async def test_the_headers_of_head_are_those_of_get() -> None:
    for content in (SMALL, LARGE):
        head = await answered(answer_with(StoredObject(content), method="HEAD"))
        get = await answered(answer_with(StoredObject(content)))
        assert head.headers == get.headers


@pytest.mark.parametrize(
    ("header", "first", "last"), [("bytes=10-19", 10, 19), ("bytes=-5", 995, 999), ("bytes=990-", 990, 999)]
)
async def test_one_range_is_sent_alone(header: str, first: int, last: int) -> None:
    stored = StoredObject(SMALL)
    answer = await answered(answer_with(stored, {"range": header}))
    assert (answer.status, answer.body) == (206, SMALL[first : last + 1])
    assert answer.headers["content-range"] == f"bytes {first}-{last}/1000"
    assert answer.headers["content-length"] == str(last - first + 1)
    assert answer.headers["content-type"] == "image/jpeg"
    assert stored.reads == [(first, last - first + 1)]


@pytest.mark.parametrize(
    ("content", "ranges"),
    [
        (SMALL, [(0, 9), (500, 509)]),
        (LARGE, [(300_000, 700_000), (5, 5)]),
        (LARGE, [(0, CHUNK_BYTES), (400_000, 400_001), (700_000, 700_100)]),
    ],
)
async def test_several_ranges_are_sent_as_parts(content: bytes, ranges: list[tuple[int, int]]) -> None:
    header = "bytes=" + ",".join(f"{first}-{last}" for first, last in ranges)
    answer = await answered(answer_with(StoredObject(content), {"range": header}))
    assert (answer.status, answer.complete) == (206, True)
    assert answer.body.startswith(b"--")
    assert answer.headers["content-length"] == str(len(answer.body))
    head = f"Content-Type: {answer.headers['content-type']}\r\n\r\n".encode()
    mail: Mail = BytesParser().parsebytes(head + answer.body)
    parts = mail.get_payload()
    assert isinstance(parts, list)
    for part, (first, last) in zip(parts, ranges, strict=True):
        assert isinstance(part, Mail)
        assert part.get_content_type() == "image/jpeg"
        assert part["content-range"] == f"bytes {first}-{last}/{len(content)}"
    boundary = answer.headers["content-type"].partition("boundary=")[2].encode()
    bodies = [part.partition(b"\r\n\r\n")[2] for part in answer.body.split(b"--" + boundary)[1:-1]]
    assert bodies == [content[first : last + 1] + b"\r\n" for first, last in ranges]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"range": "bytes=0-1", "if-range": TAG}, 206),
        ({"range": "bytes=0-1", "if-range": '"other"'}, 200),
        ({"range": "bytes=5000-", "if-range": '"other"'}, 200),
        ({"range": "lines=0-1"}, 200),
    ],
)
async def test_a_range_counts_only_where_it_applies(headers: dict[str, str], status: int) -> None:
    assert (await answered(answer_with(StoredObject(SMALL), headers))).status == status


@pytest.mark.parametrize(
    ("headers", "error", "status"),
    [
        ({"if-match": '"other"'}, PreconditionFailed, 412),
        ({"range": "bytes=1000-"}, RangeNotSatisfiable, 416),
    ],
)
async def test_a_refusal_is_raised_before_anything_is_opened_or_sent(
    headers: dict[str, str], error: type[ChitramError], status: int
) -> None:
    stored, client = StoredObject(SMALL), Receiver()
    with pytest.raises(error) as refusal:
        await answer_with(stored, headers)(sender(), client)
    assert getattr(refusal.value, "status", None) == status
    assert client.messages == []
    assert stored.opened == 0


@pytest.mark.parametrize("content", [SMALL, LARGE])
@pytest.mark.parametrize(("fail_from", "missing"), [(0, 0), (None, 1), (None, -1)])
async def test_an_object_that_fails_or_has_another_size_is_told_before_the_answer_begins(
    content: bytes, fail_from: int | None, missing: int
) -> None:
    stored, client = StoredObject(content, fail_from=fail_from), Receiver()
    with pytest.raises(StorageUnavailable):
        await answer_with(stored, size=len(content) + missing)(sender(), client)
    assert client.messages == []
    assert not stored.is_open


async def test_an_object_that_fails_later_breaks_the_answer_off() -> None:
    stored, client = StoredObject(LARGE, fail_from=CHUNK_BYTES), Receiver()
    with pytest.raises(StorageUnavailable):
        await answer_with(stored)(sender(), client)
    assert client.body == LARGE[:CHUNK_BYTES]
    assert not client.complete
    assert not stored.is_open


async def test_an_object_that_is_shorter_than_it_said_breaks_the_answer_off() -> None:
    class Shrunk(StoredObject):
        async def read(self, offset: int, length: int) -> bytes:
            return (await super().read(offset, length))[: length - 1]

    for content in (SMALL, LARGE):
        stored, client = Shrunk(content), Receiver()
        with pytest.raises(StorageUnavailable):
            await answer_with(stored)(sender(), client)
        assert client.messages == []
        assert not stored.is_open


async def test_a_client_that_reads_too_slowly_is_left_at_the_deadline() -> None:
    stored, client = StoredObject(LARGE), Receiver(stall_after=CHUNK_BYTES)
    async with asyncio.timeout(2):
        await answer_with(stored, seconds=0.05)(sender(then="silence"), client)
    assert not client.complete
    assert not stored.is_open


async def test_nothing_more_is_read_for_a_client_that_is_gone() -> None:
    stored, client = StoredObject(LARGE), Receiver()
    await answer_with(stored)(sender(then="disconnect"), client)
    assert len(stored.reads) == 1
    assert not client.complete
    assert not stored.is_open


async def test_a_body_that_comes_with_the_request_does_not_disturb_the_answer() -> None:
    stored, client = StoredObject(LARGE), Receiver()
    await answer_with(stored)(Sender([b"x"] * 5, then="silence"), client)
    assert client.complete


async def test_a_cancelled_answer_closes_its_object() -> None:
    stored, client = StoredObject(LARGE), Receiver(stall_after=CHUNK_BYTES)
    sending = asyncio.create_task(answer_with(stored)(sender(then="silence"), client))
    async with asyncio.timeout(2):
        while len(client.body) < CHUNK_BYTES:
            await asyncio.sleep(0)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    assert not stored.is_open


@pytest.fixture
async def site() -> AsyncIterator[AsyncTestClient[Litestar]]:
    @route("/file", http_method=["GET", "HEAD"])
    async def file(scope: Scope) -> ASGIApp:
        return sending(scope, StoredObject(SMALL))

    app = Litestar([file], exception_handlers=EXCEPTION_HANDLERS, openapi_config=None, logging_config=None)
    async with AsyncTestClient(app) as client:
        yield client


async def test_a_handler_may_return_it(site: AsyncTestClient[Litestar]) -> None:
    answer = await site.get("/file", headers={"Range": "bytes=0-9"})
    assert (answer.status_code, answer.content) == (206, SMALL[:10])
    assert (await site.head("/file")).headers["content-length"] == "1000"
    assert (await site.get("/file", headers={"If-None-Match": f"W/{TAG}"})).status_code == 304


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"Range": "bytes=1000-"}, 416, "RANGE_NOT_SATISFIABLE"),
        ({"If-Match": '"other"'}, 412, "PRECONDITION_FAILED"),
    ],
)
async def test_a_refusal_has_the_one_error_format(
    site: AsyncTestClient[Litestar], headers: dict[str, str], status: int, code: str
) -> None:
    answer = await site.get("/file", headers=headers)
    assert answer.status_code == status
    assert answer.json()["error"]["code"] == code
    assert answer.headers.get("content-range") == ("bytes */1000" if status == 416 else None)


@pytest.fixture
def stored() -> StoredObject:
    return StoredObject(SMALL)


PROXY, STORE = SentByProxy("/_chitram/local/a-key"), SentByStore("https://store.example.org/a-key?sig")


@pytest.mark.parametrize("asked", [{}, {"range": "bytes=0-9"}, {"range": "bytes=5-"}, {"range": "bytes=-5"}])
async def test_the_proxy_is_told_what_to_send_and_what_to_say_of_it(
    stored: StoredObject, asked: dict[str, str]
) -> None:
    answer = await answered(answer_with(stored, asked, delivery=Other(PROXY)))
    assert (answer.status, answer.body, answer.complete, stored.opened) == (200, b"", True, 0)
    assert answer.headers == {
        "content-type": "image/jpeg",
        "content-disposition": 'inline; filename="photo.jpg"',
        "content-length": "0",
        "x-accel-redirect": "/_chitram/local/a-key",
        **VALIDATORS,
        **SECURITY,
    }


@pytest.mark.parametrize("asked", [{}, {"range": "bytes=0-9"}])
async def test_a_redirect_to_the_store_is_kept_by_nobody(stored: StoredObject, asked: dict[str, str]) -> None:
    answer = await answered(answer_with(stored, asked, delivery=Other(STORE)))
    assert (answer.status, answer.body, answer.complete, stored.opened) == (307, b"", True, 0)
    assert answer.headers == {
        "location": "https://store.example.org/a-key?sig",
        "cache-control": "no-store",
        "content-length": "0",
    }


@pytest.mark.parametrize(
    "asked",
    [
        {"range": "bytes=0-9,20-29"},
        {"range": "bytes=0-9,10-19"},
        {"range": "bytes=,0-9"},
        {"range": "bytes= 0-9"},
        {"range": "Bytes=0-9"},
        {"range": "bytes=9-0"},
        {"range": "bytes=nonsense"},
        {"range": f"bytes=0-{'9' * 16}"},
        {"if-match": TAG},
        {"if-match": "*"},
        {"if-none-match": '"other"'},
        {"if-modified-since": "Thu, 01 Jan 1970 00:00:00 GMT"},
        {"if-unmodified-since": "Fri, 01 Jan 2100 00:00:00 GMT"},
        {"range": "bytes=0-9", "if-range": TAG},
    ],
    ids=str,
)
async def test_what_others_may_understand_differently_is_not_handed_over(
    stored: StoredObject, asked: dict[str, str]
) -> None:
    other = Other(PROXY)
    answer = await answered(answer_with(stored, asked, delivery=other))
    assert (other.asked, stored.opened, answer.status in {200, 206}) == (0, 1, True)


async def test_what_has_no_body_is_not_handed_over(stored: StoredObject) -> None:
    other = Other(STORE)
    assert (await answered(answer_with(stored, method="HEAD", delivery=other))).status == 200
    assert (await answered(answer_with(stored, {"if-none-match": TAG}, delivery=other))).status == 304
    with pytest.raises(PreconditionFailed):
        await answered(answer_with(stored, {"if-match": '"other"'}, delivery=other))
    with pytest.raises(RangeNotSatisfiable):
        await answered(answer_with(stored, {"range": "bytes=1000-"}, delivery=other))
    assert other.asked == 0


async def test_what_nobody_else_sends_is_sent_from_here(stored: StoredObject) -> None:
    other = Other(None)
    answer = await answered(answer_with(stored, delivery=other))
    assert (answer.status, answer.body, other.asked) == (200, SMALL, 1)

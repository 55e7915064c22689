"""What only the store on a server does: dead, hanging and unwilling servers, and the exit."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import io
import itertools
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from chitram.kernel.errors import StorageUnavailable
from chitram.platform.embedded.ports import ReservedPort
from chitram.platform.objects.base import NewObject, ObjectNotFound
from chitram.platform.objects.multipart import unfinished_uploads
from chitram.platform.objects.remote import RemoteStore
from chitram.platform.objects.s3 import Bucket, connect, create_bucket
from chitram.platform.settings import SettingsError
from tests.support.seaweed import ACCESS_KEY, SECRET_KEY, Seaweed, bucket_at, running_seaweed

KEY = "blobs/0f/a-picture"


@contextlib.asynccontextmanager
async def opened(bucket: Bucket, seconds: float = 4.0) -> AsyncIterator[RemoteStore]:
    store = RemoteStore("remote", bucket, seconds=seconds)
    yield store
    await store.aclose()


class Asked(list[str]):
    """The methods that a server was asked for, and the paths and bodies that came with them."""

    def __init__(self) -> None:
        super().__init__()
        self.paths: list[str] = []
        self.bodies: list[bytes] = []


@contextlib.contextmanager
def answering(
    answer: Callable[[str], int | None], bodies: bytes | Sequence[bytes] = b""
) -> Iterator[tuple[Bucket, Asked]]:
    """An HTTP server that answers a method with a status, or for None not before its end.

    With the same body each time, or with each of several in turn.
    """
    asked = Asked()
    turns = itertools.repeat(bodies) if isinstance(bodies, bytes) else iter(bodies)
    ended = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def handle_one_request(self) -> None:
            self.raw_requestline = self.rfile.readline()
            if not self.raw_requestline or not self.parse_request():
                return
            asked.bodies.append(self.rfile.read(int(self.headers.get("Content-Length", 0))))
            asked.paths.append(self.path)
            asked.append(self.command)
            status = answer(self.command)
            if status is None:
                ended.wait()
                return
            body = next(turns)
            self.send_response(status)
            self.send_header("ETag", "tag")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = False  # so that its end waits for them
    serving = threading.Thread(target=server.serve_forever, args=(0.01,))
    serving.start()
    try:
        yield bucket_at(f"http://127.0.0.1:{server.server_port}"), asked
    finally:
        ended.set()
        server.shutdown()
        serving.join()
        server.server_close()


def calls_of(store: RemoteStore) -> list[Awaitable[object]]:
    """Each call of a store once; none may stay unawaited."""

    async def listing() -> None:
        async for _ in store.list():
            pass

    return [
        store.put(KEY, [bytes(200_000)], 200_000),
        store.put(f"{KEY}-large", [bytes(1024 * 1024)] * 9, 9 * 1024 * 1024),
        store.open(KEY),
        store.stat(KEY),
        store.delete(KEY),
        store.check(),
        listing(),
    ]


async def refusals_of(store: RemoteStore) -> tuple[list[BaseException | object], float]:
    """What every call ends in, all made at once, and the seconds that the slowest takes."""
    started = time.monotonic()
    ends = await asyncio.gather(*calls_of(store), return_exceptions=True)
    return ends, time.monotonic() - started


async def test_a_server_that_never_answers_is_given_up_within_its_time() -> None:
    with answering(lambda _: None) as (bucket, _):
        async with opened(bucket) as store, opened(bucket, seconds=0.5) as impatient:
            ends, seconds = await refusals_of(store)
            with pytest.raises(StorageUnavailable):
                await asyncio.wait_for(impatient.start(), 2)
    assert {type(end) for end in ends} == {StorageUnavailable}
    assert seconds < 4.5


async def test_a_server_that_is_killed_is_unavailable_at_once(tmp_path: Path) -> None:
    with running_seaweed(tmp_path) as server:
        async with opened(server.bucket) as store:
            await store.start()
            await store.put(KEY, [b"kept"], 4)
            found = await store.open(KEY)
            server.kill()
            ends, seconds = await refusals_of(store)
            with pytest.raises(StorageUnavailable):
                await found.read(0, 4)
            with pytest.raises(StorageUnavailable):
                await store.start()
    assert {type(end) for end in ends} == {StorageUnavailable}
    assert seconds < 3


async def test_a_port_without_a_server_is_unavailable() -> None:
    nobody = ReservedPort()
    async with opened(bucket_at(f"http://127.0.0.1:{nobody.number}")) as store:
        ends, seconds = await refusals_of(store)
    assert {type(end) for end in ends} == {StorageUnavailable}
    assert seconds < 3


@pytest.mark.parametrize("status", [500, 503])
async def test_a_failing_server_is_asked_a_few_times_and_then_unavailable(status: int) -> None:
    with answering(lambda _: status) as (bucket, asked):
        async with opened(bucket) as store:
            ends, seconds = await refusals_of(store)
            asked.clear()
            with pytest.raises(StorageUnavailable):
                await store.stat(KEY)
    assert {type(end) for end in ends} == {StorageUnavailable}
    assert seconds < 4.5
    assert asked == ["HEAD"] * 3


@pytest.mark.parametrize(
    ("status", "message"),
    [(403, "refuses access"), (404, "is not there"), (507, "is full"), (400, "does not answer")],
)
async def test_the_message_tells_what_is_wrong_and_nothing_else(status: int, message: str) -> None:
    body = b"<Error><Code>Some</Code><Message>secret things</Message></Error>"
    with answering(lambda _: status, body) as (bucket, _):
        async with opened(bucket) as store:
            with pytest.raises(StorageUnavailable, match=message) as refusal:
                await store.put(KEY, [b"x"], 1)
    said = str(refusal.value)
    assert not any(word in said for word in (KEY, "127.0.0.1", "pictures", SECRET_KEY, ACCESS_KEY, "secret"))
    assert refusal.value.__suppress_context__


async def test_a_server_that_stalls_only_while_writing_is_given_up_too() -> None:
    with answering(lambda method: None if method == "PUT" else 404) as (bucket, _):
        async with opened(bucket, seconds=0.5) as store:
            started = time.monotonic()
            with pytest.raises(StorageUnavailable):
                await store.put(KEY, [bytes(100_000)], 100_000)
            assert time.monotonic() - started < 1.5


async def test_what_was_to_be_put_beside_something_refused_is_put_no_more() -> None:
    """Whoever is told of the refusal may remove what there is of them all."""
    puts = iter([403])
    with answering(lambda method: next(puts, None) if method == "PUT" else 404) as (bucket, asked):
        async with opened(bucket) as store:
            before = asyncio.all_tasks()
            with pytest.raises(StorageUnavailable, match="refuses access"):
                await store.put_all([NewObject(f"{KEY}-{size}", b"x", "image/jpeg") for size in range(3)])
            assert asyncio.all_tasks() == before
    assert 1 <= asked.count("PUT") <= 3


async def test_a_slow_write_to_a_server_that_is_alive_is_waited_for() -> None:
    def slow_put(method: str) -> int:
        if method != "PUT":
            return 404
        time.sleep(0.7)
        return 200

    with answering(slow_put) as (bucket, asked):
        async with opened(bucket, seconds=1) as store:
            await store.put(KEY, [bytes(100_000)], 100_000)
    assert asked == ["PUT", "GET"]


async def test_a_wrong_secret_is_refused_at_the_start(seaweed: Seaweed) -> None:
    wrong = dataclasses.replace(seaweed.bucket, secret_access_key="wrong-secret")
    async with opened(wrong) as store:
        with pytest.raises(SettingsError, match=r"'remote'.*SignatureDoesNotMatch") as refusal:
            await store.start()
        assert "wrong-secret" not in str(refusal.value)


@pytest.mark.parametrize("region", ["us-east-1", "eu-west-1", "auto"])
async def test_a_missing_bucket_is_made_at_the_start(seaweed: Seaweed, region: str) -> None:
    missing = dataclasses.replace(seaweed.bucket, name=f"made-in-{region}", region=region)
    async with opened(missing) as store:
        await store.start()
        await store.put(KEY, [b"kept"], 4)
        assert [found.key async for found in store.list()] == [KEY]
    async with opened(missing) as store:
        await store.start()
        assert await store.stat(KEY)


async def test_processes_that_make_a_bucket_at_once_all_start(seaweed: Seaweed) -> None:
    missing = dataclasses.replace(seaweed.bucket, name="made-by-many")
    async with contextlib.AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(opened(missing)) for _ in range(8)]
        await asyncio.gather(*(store.start() for store in stores))
        await stores[0].put(KEY, [b"x"], 1)
        assert await stores[7].stat(KEY)


@pytest.mark.parametrize("status", [409, 200])
async def test_a_bucket_that_is_somebody_elses_is_refused_with_its_name(status: int) -> None:
    """Its name is taken: it may not be made, nor used."""
    refusals = iter([404, 403])

    def answer(method: str) -> int:
        return status if method == "PUT" else next(refusals)

    with answering(answer, b"<Error><Code>NoSuchBucket</Code></Error>") as (bucket, asked):
        async with opened(bucket) as store:
            with pytest.raises(SettingsError, match=r"'remote' refuses the bucket 'pictures'.*somebody else"):
                await store.start()
    assert asked == ["GET", "PUT", "GET"]


@pytest.mark.parametrize("status", [400, 403])
async def test_a_bucket_that_may_not_be_made_is_refused_with_its_name(status: int) -> None:
    with answering(
        lambda method: status if method == "PUT" else 404, b"<Error><Code>NoSuchBucket</Code></Error>"
    ) as (bucket, _):
        async with opened(bucket) as store:
            with pytest.raises(SettingsError, match=r"'pictures' of the store 'remote'.*refuses to make it"):
                await store.start()


@pytest.mark.parametrize("status", [500, None])
async def test_a_server_that_fails_to_make_a_bucket_is_unavailable(status: int | None) -> None:
    with answering(
        lambda method: status if method == "PUT" else 404, b"<Error><Code>NoSuchBucket</Code></Error>"
    ) as (bucket, _):
        async with opened(bucket, seconds=1) as store:
            with pytest.raises(StorageUnavailable):
                await store.start()


async def test_a_bucket_is_made_without_asking_a_proxy(
    seaweed: Seaweed, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    bucket = dataclasses.replace(seaweed.bucket, name="no-proxy")
    create_bucket(connect(bucket, 4, {}), bucket, 2)
    monkeypatch.undo()
    assert connect(bucket, 4, {}).list(chunk_size=1).collect() == []


async def test_the_region_is_named_to_the_server_unless_it_is_its_default() -> None:
    bodies = {}
    for region in ("us-east-1", "auto", "eu-west-1"):
        with answering(lambda _: 200) as (bucket, asked):
            located = dataclasses.replace(bucket, region=region)
            create_bucket(connect(located, 4, {}), located, 2)
        bodies[region] = asked.bodies[0]
    assert (bodies["us-east-1"], bodies["auto"]) == (b"", b"")
    assert b"<LocationConstraint>eu-west-1</LocationConstraint>" in bodies["eu-west-1"]


async def test_a_bucket_that_has_vanished_is_unavailable_and_not_empty(seaweed: Seaweed) -> None:
    async with opened(dataclasses.replace(seaweed.bucket, name="vanished")) as store:
        calls = calls_of(store)
        ends = await asyncio.gather(*calls[2:], return_exceptions=True)
        for put in calls[:2]:
            assert asyncio.iscoroutine(put)
            put.close()  # this server makes a bucket by itself when something is put
    assert {type(end) for end in ends} == {StorageUnavailable}
    assert {str(end) for end in ends} == {"The image store is not there."}


async def test_reading_what_was_deleted_says_that_it_is_gone(seaweed: Seaweed) -> None:
    async with opened(seaweed.bucket) as store:
        await store.put(KEY, [b"kept"], 4)
        found = await store.open(KEY)
        await store.delete(KEY)
        with pytest.raises(ObjectNotFound):
            await found.read(0, 4)


async def test_reading_what_was_replaced_is_refused(seaweed: Seaweed) -> None:
    async with opened(seaweed.bucket) as store:
        await store.put(KEY, [b"first"], 5)
        found = await store.open(KEY)
        await store.put(KEY, [b"other"], 5)
        with pytest.raises(StorageUnavailable):
            await found.read(0, 5)


async def test_a_listing_shows_no_foreign_object(seaweed: Seaweed) -> None:
    seaweed.clear()
    for foreign in (".chitram-check", "Thumbs.db", "a b", "blobs/Ü"):
        seaweed.client().put(foreign, io.BytesIO(b"x"))
    async with opened(seaweed.bucket) as store:
        await store.put(KEY, [b"x"], 1)
        assert [found.key async for found in store.list()] == [KEY]
        assert await store.remove_unfinished(datetime.now(UTC)) == 0


CUT_OFF = """
import asyncio, sys, time
from chitram.platform.objects.remote import RemoteStore
from chitram.platform.objects.s3 import Bucket
bucket = Bucket(name=sys.argv[1], endpoint=sys.argv[2], region="us-east-1",
                access_key_id=sys.argv[3], secret_access_key=sys.argv[4])
def chunks():
    yield from [bytes(1024 * 1024)] * 30
    print("sent", flush=True)
    time.sleep(60)
asyncio.run(RemoteStore("remote", bucket).put(sys.argv[5], chunks(), 40 * 1024 * 1024))
"""


def cut_off(bucket: Bucket, key: str) -> None:
    """Begin an upload in parts and be killed in the middle of it."""
    arguments = [bucket.name, bucket.endpoint, bucket.access_key_id, bucket.secret_access_key, key]
    with subprocess.Popen([sys.executable, "-c", CUT_OFF, *arguments], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"sent\n"
        process.kill()


async def test_parts_that_a_kill_left_are_removed_and_those_of_others_are_not(seaweed: Seaweed) -> None:
    seaweed.clear()
    foreign = "backups/of/others"
    for key in (KEY, foreign):
        await asyncio.to_thread(cut_off, seaweed.bucket, key)
    now, hour = datetime.now(UTC), timedelta(hours=1)
    async with opened(seaweed.bucket) as store:
        assert [found.key async for found in store.list()] == []
        assert await store.remove_unfinished(now - hour, "blobs/") == 0
        assert await store.remove_unfinished(now + hour, "blobs/") == 1
        assert await store.remove_unfinished(now + hour, "blobs/") == 0
        assert await store.remove_unfinished(now + hour) == 1
        await store.put(KEY, [bytes(1024 * 1024)] * 20, 20 * 1024 * 1024)
        assert await store.remove_unfinished(now + hour) == 0


async def test_unfinished_uploads_are_read_page_by_page() -> None:
    first = (
        b"<ListMultipartUploadsResult><IsTruncated>true</IsTruncated><NextKeyMarker>blobs/a&amp;b"
        b"</NextKeyMarker><NextUploadIdMarker>1/+</NextUploadIdMarker>"
        b"<Upload><Key>blobs/a</Key><UploadId>1/+&amp;</UploadId><Initiated>2026-01-02T03:04:05.678Z"
        b"</Initiated></Upload><Upload><UploadId>2</UploadId><Initiated>2026-01-02T03:04:05Z</Initiated>"
        b"<Key>blobs/b</Key></Upload></ListMultipartUploadsResult>"
    )
    last = first[: first.index(b"<Upload>")] + b"</ListMultipartUploadsResult>"  # no further than before
    with answering(lambda _: 200, [first, last]) as (bucket, asked):
        found = await asyncio.to_thread(lambda: [*unfinished_uploads(bucket, "blobs/", 4)])
    assert [(upload.key, upload.upload_id, upload.begun.second) for upload in found] == [
        ("blobs/a", "1/+&", 5),
        ("blobs/b", "2", 5),
    ]
    assert "key-marker=blobs%2Fa%26b&prefix=blobs%2F&upload-id-marker=1%2F%2B&uploads=" in asked.paths[1]


@pytest.mark.parametrize(("status", "removed"), [(403, 0), (501, 0), (500, None), (None, None)])
async def test_a_server_that_does_not_list_unfinished_uploads_is_left_alone(
    status: int | None, removed: int | None
) -> None:
    with answering(lambda _: status) as (bucket, _):
        async with opened(bucket, seconds=1) as store:
            if removed is None:
                with pytest.raises(StorageUnavailable):
                    await store.remove_unfinished(datetime.now(UTC))
            else:
                assert await store.remove_unfinished(datetime.now(UTC)) == removed


async def test_the_start_leaves_nothing_in_the_bucket(seaweed: Seaweed) -> None:
    seaweed.clear()
    async with opened(seaweed.bucket) as store:
        await store.start()
    assert seaweed.client().list().collect() == []


async def test_the_environment_changes_nothing(seaweed: Seaweed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "another")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "another")
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    monkeypatch.setenv("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "true")
    async with opened(seaweed.bucket) as store:
        await store.start()


async def test_a_cancelled_large_put_is_aborted(seaweed: Seaweed) -> None:
    seaweed.clear()
    async with opened(seaweed.bucket) as store:
        size = 64 * 1024 * 1024
        putting = asyncio.ensure_future(store.put(KEY, [bytes(1024 * 1024)] * 64, size))
        await asyncio.sleep(0.1)
        putting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await putting
        assert await store.stat(KEY) is None


def test_a_bucket_does_not_show_its_secrets() -> None:
    bucket = dataclasses.replace(bucket_at("http://127.0.0.1:1"), session_token="a-token")
    assert SECRET_KEY not in repr(bucket)
    assert "a-token" not in repr(bucket)


LAST_CALL = """
import asyncio, os, sys
from chitram.platform.objects.remote import RemoteStore
from tests.support.seaweed import bucket_at

async def main(last, close):
    store = RemoteStore("remote", bucket_at(sys.argv[1]))
    if last == "read":
        found = await store.open("exit")
        await found.read(0, found.size)
    elif last == "list":
        [_ async for _ in store.list()]
    elif last == "cancelled":
        reading = asyncio.ensure_future(store.stat("exit"))
        await asyncio.sleep(0)
        reading.cancel()
    else:
        await store.put("exit", [bytes(200_000)], 200_000)
    if close:
        await store.aclose()

asyncio.run(main(sys.argv[2], sys.argv[3] == "close"))
"""


@pytest.mark.parametrize("last", ["put", "read", "list", "cancelled"])
def test_the_process_exits_well_after_its_last_call(seaweed: Seaweed, last: str) -> None:
    """The same with obstore's coroutines ended in an abort about once in twenty runs."""
    seaweed.client().put("exit", io.BytesIO(bytes(200_000)))
    command = [sys.executable, "-c", LAST_CALL, seaweed.endpoint, last]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    running = [
        subprocess.Popen([*command, close], env=environment, stderr=subprocess.PIPE)
        for close in ("close", "leave", "close", "leave")
    ]
    errors = [process.communicate(timeout=30)[1] for process in running]
    assert [process.returncode for process in running] == [0, 0, 0, 0], errors

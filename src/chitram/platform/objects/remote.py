"""Objects in a bucket of any S3-compatible server."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import IO, TYPE_CHECKING, Literal, TypeVar, cast

import structlog
from obstore import sign
from obstore.exceptions import BaseError

from chitram.kernel.errors import StorageUnavailable
from chitram.platform.objects.base import (
    DEFAULT_MEDIA_TYPE,
    NewObject,
    ObjectNotFound,
    ObjectStat,
    check_key,
    check_presigned_seconds,
    is_key,
    split_prefix,
)
from chitram.platform.objects.blocking import Threads, counted
from chitram.platform.objects.multipart import MultipartRefused, abort_upload, unfinished_uploads
from chitram.platform.objects.s3 import Bucket, BucketRefused, connect, create_bucket, reason, status
from chitram.platform.settings import SettingsError

if TYPE_CHECKING:  # obstore has these for type checkers alone
    from obstore import GetOptions, ObjectMeta

T = TypeVar("T")

_READ_THREADS = 32
_WRITE_THREADS = 8
# S3 asks for parts of 5 MiB at least; one request is atomic and needs no second.
_PART_BYTES = 8 * 1024 * 1024
_PARTS_AT_ONCE = 2
_SLOWEST_BYTES_PER_SECOND = 1024 * 1024
_LIST_BATCH = 1000
_SWEEP_SECONDS = 60.0
# No key can be this, so it meets no object.
_PROBE = ".chitram-check"

# Whoever gets an object by an address got it for a while; the address is of no use again.
_ATTRIBUTES = {"Cache-Control": "private, no-store"}

_REFUSED = range(400, 500)
_MESSAGES = {
    401: "The image store refuses access.",
    403: "The image store refuses access.",
    404: "The image store is not there.",
    507: "The image store is full.",
}

log = structlog.get_logger(__name__)


class RemoteStore:
    """An object store over a bucket.

    obstore is called from this store's own threads: they are joined when the interpreter ends,
    whereas its coroutines, finishing in threads of their own, can abort the process then.

    Args:
        seconds: how long the server may take to answer; reads and writes have more by their size.
    """

    def __init__(self, name: str, bucket: Bucket, *, seconds: float = 4.0) -> None:
        self._name = name
        self._bucket = bucket
        self._seconds = seconds
        stalled = timedelta(seconds=seconds * 7 / 8)
        self._client = connect(bucket, seconds, {"read_timeout": stalled, "timeout": timedelta(minutes=1)})
        # A read time-out would count the time that sending takes.
        self._sender = connect(bucket, seconds, {"timeout": timedelta(seconds=self._patience(_PART_BYTES))})
        # Signatures hold the host, so addresses are signed for the one that clients reach.
        self._signer = connect(bucket.as_clients_see_it(), seconds, {})
        self._readers = Threads(f"{name}-read", _READ_THREADS)
        self._writers = Threads(f"{name}-write", _WRITE_THREADS)

    @property
    def name(self) -> str:
        return self._name

    async def start(self) -> None:
        try:
            await self._readers.run(self._prove, self._seconds * 3)
        except BucketRefused as error:
            raise SettingsError(
                f"CHITRAM_STORAGE_URLS: the bucket {self._bucket.name!r} of the store {self._name!r} "
                f"is not there, and its server refuses to make it: {error}. Make it by other means, or "
                "use an access key that may."
            ) from None
        except (BaseError, OSError) as error:
            if status(error) in _REFUSED:
                raise SettingsError(
                    f"CHITRAM_STORAGE_URLS: the server of the store {self._name!r} refuses the bucket "
                    f"{self._bucket.name!r}: {reason(error)}. Check its name, which may be somebody "
                    "else's, its region, access key and secret key."
                ) from None
            raise self._unavailable(error) from None

    async def put(
        self, key: str, chunks: Iterable[bytes], size: int, media_type: str = DEFAULT_MEDIA_TYPE
    ) -> None:
        check_key(key)
        abandoned = threading.Event()
        source = _Source(counted(chunks, size, abandoned))
        send = partial(self._send, key, source, media_type, multipart=size > _PART_BYTES)
        sending = asyncio.ensure_future(self._call(send, self._writers, self._patience(size)))
        try:
            await asyncio.wait({sending}, timeout=self._seconds / 2)
            if not sending.done():
                # A slow server may go on; one that answers nothing else either is dead.
                await self._call(self._require_bucket, seconds=self._seconds / 2)
            await sending
        finally:
            abandoned.set()
            sending.cancel()

    async def put_all(self, objects: Sequence[NewObject]) -> None:
        puts = [
            asyncio.ensure_future(self.put(each.key, [each.content], len(each.content), each.media_type))
            for each in objects
        ]
        try:
            await asyncio.gather(*puts)
        finally:
            # Nothing is put any more once this has failed.
            for each in puts:
                each.cancel()
            await asyncio.gather(*puts, return_exceptions=True)

    async def open(self, key: str) -> OpenRemote:
        meta = await self._call(partial(self._head, check_key(key)))
        if meta is None:
            raise ObjectNotFound
        return OpenRemote(self, meta)

    async def presign(self, method: Literal["GET", "PUT"], key: str, seconds: int) -> str:
        lifetime = timedelta(seconds=check_presigned_seconds(seconds))
        return await self._call(partial(sign, self._signer, method, check_key(key), lifetime))

    def internal_path(self, key: str) -> None:
        check_key(key)

    async def stat(self, key: str) -> ObjectStat | None:
        meta = await self._call(partial(self._head, check_key(key)))
        return _described(meta) if meta else None

    async def delete(self, key: str) -> None:
        await self._call(partial(self._delete, check_key(key)))

    async def list(self, prefix: str = "") -> AsyncIterator[ObjectStat]:
        folder, _ = split_prefix(prefix)
        pages = self._client.list(folder or None, chunk_size=_LIST_BATCH)
        while page := await self._call(partial(next, pages, None)):
            for meta in page:
                if meta["path"].startswith(prefix) and is_key(meta["path"]):
                    yield _described(meta)

    async def remove_unfinished(self, before: datetime, prefix: str = "") -> int:
        """Abort uploads in parts; a server that does not take part in that is left to its own rules."""
        abort = partial(self._abort_unfinished, before, prefix)
        return await self._call(abort, seconds=_SWEEP_SECONDS)

    async def check(self) -> None:
        await self._call(self._require_bucket)

    async def aclose(self) -> None:
        self._readers.close()
        self._writers.close()

    async def read(self, key: str, options: GetOptions, length: int) -> bytes:
        """Read part of an object; raises `ObjectNotFound`."""
        return await self._call(partial(self._get, key, options), seconds=self._patience(length))

    def _patience(self, size: int) -> float:
        return self._seconds + size / _SLOWEST_BYTES_PER_SECOND

    async def _call(
        self, call: Callable[[], T], threads: Threads | None = None, seconds: float | None = None
    ) -> T:
        """Run `call` in a thread and turn what the server says into `StorageUnavailable`."""
        try:
            return await (threads or self._readers).run(call, seconds or self._seconds)
        except (BaseError, OSError) as error:
            raise self._unavailable(error) from None  # its text holds keys and addresses

    def _unavailable(self, error: Exception) -> StorageUnavailable:
        cause = type(error).__name__
        log.warning("object store failed", store=self._name, cause=cause, reason=reason(error))
        return StorageUnavailable(_MESSAGES.get(status(error)))

    def _prove(self) -> None:
        """List, write and delete: all that this store will ever have to do."""
        try:
            self._client.list(_PROBE, chunk_size=1).collect()
        except (BaseError, OSError) as error:
            if reason(error) != "NoSuchBucket":
                raise
            create_bucket(self._client, self._bucket, self._seconds / 2)
            log.warning("bucket made", store=self._name, bucket=self._bucket.name)
            self._client.list(_PROBE, chunk_size=1).collect()
        self._sender.put(_PROBE, io.BytesIO(), use_multipart=False)
        self._client.delete(_PROBE)

    def _send(self, key: str, source: _Source, media_type: str, *, multipart: bool) -> None:
        try:
            self._sender.put(
                key,
                cast(IO[bytes], source),
                attributes={"Content-Type": media_type, **_ATTRIBUTES},
                use_multipart=multipart,
                chunk_size=_PART_BYTES,
                max_concurrency=_PARTS_AT_ONCE,
            )
        except (BaseError, OSError):
            if source.failure:
                raise source.failure from None
            raise

    def _abort_unfinished(self, before: datetime, prefix: str) -> int:
        removed = 0
        try:
            for upload in unfinished_uploads(self._bucket, prefix, self._seconds):
                if is_key(upload.key) and upload.begun < before:
                    abort_upload(self._bucket, upload, self._seconds)
                    removed += 1
        except MultipartRefused as refusal:
            log.warning("unfinished uploads not removed", store=self._name, reason=str(refusal))
        return removed

    def _head(self, key: str) -> ObjectMeta | None:
        try:
            return self._client.head(key)
        except FileNotFoundError:
            self._require_bucket()
            return None

    def _get(self, key: str, options: GetOptions) -> bytes:
        try:
            return bytes(self._client.get(key, options=options).bytes())
        except FileNotFoundError:
            self._require_bucket()
            raise ObjectNotFound from None

    def _delete(self, key: str) -> None:
        try:
            self._client.delete(key)
        except FileNotFoundError:
            self._require_bucket()

    def _require_bucket(self) -> None:
        """Ask for what is not there: only the body of that answer tells which of the two is missing."""
        try:
            self._client.get(_PROBE)
        except FileNotFoundError as error:
            if reason(error) == "NoSuchBucket":
                raise


class OpenRemote:
    """An object that was there when it was opened, read piece by piece."""

    def __init__(self, store: RemoteStore, meta: ObjectMeta) -> None:
        self._store = store
        self._meta = meta

    @property
    def size(self) -> int:
        return self._meta["size"]

    async def read(self, offset: int, length: int) -> bytes:
        if offset < 0 or length < 0:
            raise ValueError("this cannot be read")
        end = min(offset + length, self.size)
        if end <= offset:
            return b""
        options: GetOptions = {"range": (offset, end)}
        if tag := self._meta["e_tag"]:
            options["if_match"] = tag
        return await self._store.read(self._meta["path"], options, end - offset)

    async def as_file(self) -> None:
        """Return None: it is on another machine."""

    async def aclose(self) -> None:
        """Do nothing: between reads the server holds nothing for us."""


class _Source:
    """Chunks as the file that obstore reads from.

    A file, because it copies what it reads: buffers of Python's would be freed by its own threads,
    maybe after the interpreter. `failure` is what `chunks` raised, of which obstore keeps the text.
    """

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")
        self.failure: Exception | None = None

    def read(self, size: int) -> bytes:
        try:
            while not self._rest:
                chunk = next(self._chunks, None)
                if chunk is None:
                    return b""
                self._rest = memoryview(chunk)
        except Exception as error:
            self.failure = error
            raise
        part, self._rest = self._rest[:size], self._rest[size:]
        return bytes(part)

    def seek(self, *_: int) -> int:
        raise io.UnsupportedOperation


def _described(meta: ObjectMeta) -> ObjectStat:
    return ObjectStat(meta["path"], meta["size"], meta["last_modified"])

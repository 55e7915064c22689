"""The real API and worker, made to kill themselves at a named step.

`python -m tests.support.crashing api|worker` is `chitram api|worker` with providers that wrap the real
adapters. A step is armed by writing its name, and which time it is reached to end the process, to
`crash-<role>` in the data directory. There is no exception, no cleanup: SIGKILL from within.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self, cast
from uuid import UUID

import psutil
from dishka import Provider, Scope
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Send
from litestar.types import Scope as AsgiScope

from chitram.images.adapters.postgres.unit_of_work import PostgresUnitOfWork
from chitram.images.domain.content import Inspection, Received
from chitram.images.domain.keys import RENDITIONS
from chitram.images.entrypoints.slots import UploadSlots
from chitram.images.ports import (
    BlobStore,
    ImageCaches,
    Inspector,
    Quarantine,
    Rendered,
    Renderer,
    Transactions,
)
from chitram.main import api, worker
from chitram.main.container import JOBS
from chitram.platform.objects.local import LocalStore
from chitram.platform.objects.registry import ObjectStores
from chitram.platform.queue import QueueRelay
from chitram.platform.settings import data_dir, load_settings

# What a child has to have worked for, so that it is killed, or outlives its parent, in the middle.
_WORKED_SECONDS = 0.02
_LOOK_SECONDS = 0.002
_AN_UPLOAD = "an upload"


class Armed:
    """Which step ends this process, as the test has written it down."""

    def __init__(self, role: str) -> None:
        self._file = data_dir(load_settings()) / f"crash-{role}"

    def at(self, step: str) -> bool:
        """Whether a step is armed that begins with this."""
        try:
            return self._file.read_text().startswith(step)
        except FileNotFoundError:
            return False

    def reached(self, step: str) -> None:
        """Count a step that is armed; end this process when it is its time."""
        if self._is_time(step):
            os.kill(os.getpid(), signal.SIGKILL)

    def reached_by_child(self, step: str, child: int) -> None:
        """Likewise, but end the child."""
        if self._is_time(step):
            os.kill(child, signal.SIGKILL)

    async def about_to_lose(self, step: str) -> None:
        """At a step that is armed, wait for the test to have the next answer lost."""
        if self._is_time(step):
            waiting = self._file.with_suffix(".waits")
            waiting.touch()
            while waiting.exists():
                await asyncio.sleep(_LOOK_SECONDS)

    def _is_time(self, step: str) -> bool:
        try:
            name, _, count = self._file.read_text().partition("#")
        except FileNotFoundError:
            return False
        if name != step:
            return False
        if int(count) > 1:
            self._file.write_text(f"{name}#{int(count) - 1}")
            return False
        # Away before the end, so that whoever comes next lives.
        self._file.unlink()
        return True


class Wrapped:
    """Passes on to the real one whatever a subclass does not have."""

    def __init__(self, inner: Any, armed: Armed) -> None:
        self._inner = inner
        self._armed = armed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class CrashingSlots(Wrapped):
    @contextlib.asynccontextmanager
    async def taken(self, client: tuple[str, int] | None = None) -> AsyncIterator[None]:
        async with self._inner.taken(client):
            self._armed.reached("slot taken")
            yield


class CrashingInspector(Wrapped):
    async def inspect(self, received: Received) -> Inspection:
        self._armed.reached("before the check")
        inspection = await in_the_middle(self._armed, "check", self._inner.inspect(received))
        self._armed.reached("after the check")
        return cast("Inspection", inspection)


class CrashingRenderer(Wrapped):
    async def thumbnails(self, original: Received) -> Sequence[Rendered]:
        made = await in_the_middle(self._armed, "thumbnails", self._inner.thumbnails(original))
        self._armed.reached("thumbnails rendered")
        return cast("Sequence[Rendered]", made)

    async def optimised(self, original: Received) -> Sequence[Rendered]:
        made = await in_the_middle(self._armed, "optimising", self._inner.optimised(original))
        self._armed.reached("optimised rendered")
        return cast("Sequence[Rendered]", made)


class CrashingBlobStore(Wrapped):
    async def put(
        self, blob_id: UUID, shard: str, chunks: Iterable[bytes], size: int, media_type: str
    ) -> None:
        self._armed.reached("before the object is put")
        await self._inner.put(blob_id, shard, self._watched(chunks), size, media_type)
        self._armed.reached("object put")

    def _watched(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Reach a step at the first bytes, and another before the writer knows that they are all."""
        for chunk in chunks:
            yield chunk
            self._armed.reached("object begun")
        self._armed.reached("object written, not yet in its place")

    @contextlib.asynccontextmanager
    async def fetch(self, blob_id: UUID, shard: str) -> AsyncIterator[Received]:
        async with self._inner.fetch(blob_id, shard) as received:
            self._armed.reached("original fetched")
            yield received


class CrashingQuarantine(Wrapped):
    async def delete(self, upload_id: UUID, shard: str) -> None:
        self._armed.reached("before the quarantine is cleared")
        await self._inner.delete(upload_id, shard)
        self._armed.reached("quarantine cleared")


class CrashingCaches(Wrapped):
    async def invalidate(self, image_id: UUID, oldest: int) -> bool:
        self._armed.reached("before the caches are told")
        told: bool = await self._inner.invalidate(image_id, oldest)
        self._armed.reached("caches told")
        return told


class CrashingJob(Wrapped):
    async def __call__(self, entry: Any) -> None:
        self._armed.reached(f"{self.kind} taken")
        await self._inner(entry)
        self._armed.reached(f"{self.kind} done, not acknowledged")


class CrashingTransactions(Wrapped):
    def begin(self) -> CrashingUnitOfWork:
        return CrashingUnitOfWork(self._inner.begin(), self._armed)

    async def add_first(self, *arguments: Any, **named: Any) -> None:
        self._armed.reached(f"before COMMIT of {_AN_UPLOAD}")
        await self._armed.about_to_lose(f"answer to COMMIT of {_AN_UPLOAD} lost")
        await self._inner.add_first(*arguments, **named)
        # The queue has not been told yet: that takes a turn of the event loop.
        self._armed.reached(f"after COMMIT of {_AN_UPLOAD}")
        if self._armed.at("queue told"):
            await cast("QueueRelay", self._inner._relay).drain()
            self._armed.reached("queue told")

    async def record_made(self, *arguments: Any) -> Any:
        self._armed.reached("before COMMIT of a job")
        await self._armed.about_to_lose("answer to COMMIT of a job lost")
        recorded = await self._inner.record_made(*arguments)
        self._armed.reached("after COMMIT of a job")
        return recorded


class CrashingUnitOfWork(PostgresUnitOfWork):
    """Knows what is committed by what was done in it."""

    def __init__(self, real: PostgresUnitOfWork, armed: Armed) -> None:
        super().__init__(real._sessions, real._relay)
        self._armed = armed
        # In their order, each once.
        self._done: dict[str, None] = {}

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self._note(self.images, "add", _AN_UPLOAD)
        self._note(self.images, "remove", "a removal")
        self._note(self.keys, "claim", "a claim")
        self._note(self.outbox, "done", "a job")
        return self

    def _note(self, repository: object, method: str, what: str) -> None:
        original: Callable[..., Awaitable[Any]] = getattr(repository, method)

        async def noting(*arguments: Any, **named: Any) -> Any:
            self._done[what] = None
            return await original(*arguments, **named)

        setattr(repository, method, noting)

    async def commit(self) -> None:
        for what in self._done:
            self._armed.reached(f"before COMMIT of {what}")
            await self._armed.about_to_lose(f"answer to COMMIT of {what} lost")
        await super().commit()
        for what in self._done:
            # The queue has not been told yet: that takes a turn of the event loop.
            self._armed.reached(f"after COMMIT of {what}")
        if self.outbox.added and self._armed.at("queue told"):
            await cast("QueueRelay", self._relay).drain()
            self._armed.reached("queue told")


async def in_the_middle(armed: Armed, step: str, work: Awaitable[Any]) -> Any:
    """Wait for a child process to work; reach two steps while it really does."""
    if not armed.at(f"amid the {step}"):
        return await work
    children = [child for child in psutil.Process().children() if _is_ours(child)]
    before = {child.pid: _worked(child) for child in children}
    task = asyncio.ensure_future(work)
    while not task.done():
        for child in children:
            if _worked(child) - before[child.pid] >= _WORKED_SECONDS:
                armed.reached(f"amid the {step}")
                armed.reached_by_child(f"amid the {step}, the child", child.pid)
        await asyncio.sleep(_LOOK_SECONDS)
    return await task


def _is_ours(child: psutil.Process) -> bool:
    return "chitram.images.adapters" in " ".join(child.cmdline())


def _worked(child: psutil.Process) -> float:
    try:
        times = child.cpu_times()
    except psutil.NoSuchProcess:
        return 0
    return float(times.user + times.system)


def crashing(armed: Armed) -> Provider:
    """Wraps everything that a step can be reached in."""
    provider = Provider(scope=Scope.APP)

    def wrap(port: Any, wrapper: type[Wrapped]) -> None:
        def source(inner: Any) -> Any:
            return wrapper(inner, armed)

        source.__annotations__ = {"inner": port, "return": port}
        provider.decorate(source, provides=port)

    wrap(UploadSlots, CrashingSlots)
    wrap(Inspector, CrashingInspector)
    wrap(Renderer, CrashingRenderer)
    wrap(Transactions, CrashingTransactions)
    wrap(BlobStore, CrashingBlobStore)
    wrap(Quarantine, CrashingQuarantine)
    wrap(ImageCaches, CrashingCaches)
    for job in JOBS:
        wrap(job, CrashingJob)

    def stores(inner: ObjectStores) -> ObjectStores:
        for store in inner:
            _watch_deletes(store, armed)
            _watch_renditions(store, armed)
        return inner

    provider.decorate(stores)
    return provider


def _watch_deletes(store: Any, armed: Armed) -> None:
    delete = store.delete

    async def watched(key: str) -> None:
        await delete(key)
        armed.reached("object deleted")

    store.delete = watched


def _watch_renditions(store: Any, armed: Armed) -> None:
    """Reach a step after every single rendition, also among those that are put together."""
    target, name = (store._directory, "_publish") if isinstance(store, LocalStore) else (store, "put")
    place = getattr(target, name)

    def reached(key: str) -> None:
        if key.startswith(RENDITIONS):
            armed.reached("rendition put")

    def put_locally(temporary: Path, key: str, *arguments: Any) -> Any:
        folders = place(temporary, key, *arguments)
        reached(key)
        return folders

    async def put_remotely(key: str, *arguments: Any) -> None:
        await place(key, *arguments)
        reached(key)

    setattr(target, name, put_locally if isinstance(store, LocalStore) else put_remotely)


def app() -> ASGIApp:
    """Make the application of one server process."""
    armed = Armed("api")
    inner = api.app_of_worker(crashing(armed))

    async def served(scope: AsgiScope, receive: Receive, send: Send) -> None:
        async def watched() -> Any:
            message = await receive()
            if message["type"] == "http.request" and message.get("more_body"):
                armed.reached("body half read")
            return message

        await inner(scope, watched if scope["type"] == ScopeType.HTTP else receive, send)

    return served


def main(role: str) -> int:
    """Run one of them until it is stopped."""
    settings = load_settings()
    if role == "api":
        return api.run(settings, factory="tests.support.crashing:app")
    return worker.run(settings, crashing(Armed(role)))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    raise SystemExit(main(sys.argv[1]))

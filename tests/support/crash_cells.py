"""The steps at which a process is killed, what is done then, and what has to come of it."""

from __future__ import annotations

import asyncio
import functools
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import httpx
from PIL import Image

from tests.support.crash_site import IMAGES, CrashSite, Role, Sent, halves, new_key
from tests.support.photos import encode, jpeg, unique
from tests.support.proxy import Mode

UPLOADS = "/api/v1/uploads"
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Cell:
    """One kill.

    Attributes:
        group: what is done when it happens.
        step: at which it happens.
        run: does it and checks what has to hold; says what was special.
    """

    group: str
    step: str
    run: Callable[[CrashSite], Awaitable[str]]

    @property
    def id(self) -> str:
        return f"{self.group}: {self.step}"


@functools.cache
def _photo(width: int, height: int) -> bytes:
    return jpeg(width, height)


def small() -> bytes:
    """A photo that no other cell uploads."""
    return unique(_photo(800, 600), next(_numbers))


def slow() -> bytes:
    """A picture that no other cell uploads, and that keeps a decoder busy for a while."""
    return encode(Image.new("RGB", (7000 - next(_numbers), 7000), "teal"), "PNG", compress_level=1)


def large() -> bytes:
    """A photo that no other cell uploads, and that keeps a renderer busy for a while."""
    return unique(_photo(4000, 3000), next(_numbers))


async def killed(site: CrashSite, role: Role) -> None:
    """Wait for the death of a process, and for its successor."""
    await site.fired(role)
    if role is site.worker:
        await site.worker_again()
    else:
        await site.ready()


async def settled(site: CrashSite, sent: Sent, images: int, *, orphans: bool = False) -> str:
    """Check everything once it is quiet.

    Args:
        images: how many there have to be over the content: each answered upload made one, and so did
            each whose COMMIT took effect and whose answer never came.
        orphans: whether reconcile may have something to remove.
    """
    await site.quiet()
    if sent.body:
        await site.is_whole(sent)
        digest = bytes.fromhex(sent.body["checksum"])
        count = "SELECT count(*) FROM images i JOIN blobs b ON b.id = i.blob_id WHERE b.sha256 = $1"
        assert await site.value(count, digest) == images
        assert await site.value("SELECT count(*) FROM blobs WHERE sha256 = $1", digest) == 1
    return await site.is_consistent(orphans=orphans)


# Uploads.


def upload(
    step: str,
    *,
    images: int = 1,
    orphans: bool = False,
    content_of: Callable[[], bytes] = small,
    signed_in: bool = False,
) -> Callable[[CrashSite], Awaitable[str]]:
    """Kill the API during an upload without a key, which the client then repeats."""

    async def run(site: CrashSite) -> str:
        content = content_of()
        headers = await site.account() if signed_in else {}
        site.api.arm(step)
        assert (await site.upload(content, **headers)).body is None
        await killed(site, site.api)
        return await settled(site, await site.upload(content, **headers), images, orphans=orphans)

    return run


async def half_a_body(site: CrashSite) -> str:
    content = small()
    site.api.arm("body half read")

    async def body() -> AsyncIterator[bytes]:
        for half in halves(content):
            yield half
            await asyncio.sleep(0)

    try:
        answer = await site.client.post(IMAGES, content=body())
    except httpx.TransportError:
        answer = None
    assert answer is None
    await killed(site, site.api)
    return await settled(site, await site.upload(content), 1)


async def decoder_killed(site: CrashSite) -> str:
    content = slow()
    site.api.arm("amid the check, the child")
    answer = await site.client.post(IMAGES, content=content)
    await site.fired(site.api)
    note = f"client told {answer.status_code}"
    if answer.status_code != 201:
        note += f" {answer.json()['error']['code']}"
        sent = await site.upload(content)
    else:
        sent = Sent(content, answer.json())
    return "; ".join(filter(None, [note, await settled(site, sent, 1)]))


def shared(step: str, *, images: int) -> Callable[[CrashSite], Awaitable[str]]:
    """Kill the API while it uploads what is there already."""

    async def run(site: CrashSite) -> str:
        first = await site.upload(content := small())
        await site.quiet()
        site.api.arm(step)
        assert (await site.upload(content)).body is None
        await killed(site, site.api)
        await site.upload(content)
        return await settled(site, first, images)

    return run


def put_back(step: str, *, images: int) -> Callable[[CrashSite], Awaitable[str]]:
    """Kill the API while it uploads what is there but for its object."""

    async def run(site: CrashSite) -> str:
        first = await site.upload(content := small())
        await site.quiet()
        await site.lose_object(first)
        site.api.arm(step)
        assert (await site.upload(content)).body is None
        await killed(site, site.api)
        await site.upload(content)
        # Half of what was being put back has a name of its own, which reconcile removes.
        return await settled(site, first, images, orphans=True)

    return run


def with_key(step: str) -> Callable[[CrashSite], Awaitable[str]]:
    """Kill the API during an upload with an idempotency key: the repeat makes no second image."""

    async def run(site: CrashSite) -> str:
        content, key = small(), new_key()
        site.api.arm(step)
        assert (await site.upload(content, **{"idempotency-key": key})).body is None
        await killed(site, site.api)
        waited = await site.lease_of_key_ends()
        again = await site.upload(content, **{"idempotency-key": key})
        third = await site.upload(content, **{"idempotency-key": key})
        assert third.body == again.body
        orphans = step.startswith("before COMMIT")
        return "; ".join(filter(None, [waited, await settled(site, again, 1, orphans=orphans)]))

    return run


def commit_lost(what: str, *, key: bool = False, away: bool = False) -> Callable[[CrashSite], Awaitable[str]]:
    """Lose the answer to the COMMIT of an upload, and perhaps the database for a while."""

    async def run(site: CrashSite) -> str:
        content = small()
        headers = {"idempotency-key": new_key()} if key else {}
        site.api.lose(what, Mode.CUT if away else Mode.PASS)
        task = asyncio.create_task(site.client.post(IMAGES, content=content, headers=headers))
        await site.api.lost()
        answer = await task
        note = f"client told {answer.status_code}"
        site.api.proxy.mode = Mode.PASS
        if away:
            assert answer.status_code == 503
            answer = await site.client.post(IMAGES, content=content, headers=headers)
        assert answer.status_code == 201, answer.text
        assert answer.headers.get("idempotency-replayed") == ("true" if key and away else None)
        images = 2 if away and not key else 1
        return "; ".join(filter(None, [note, await settled(site, Sent(content, answer.json()), images)]))

    return run


def direct(step: str, *, key: bool = False) -> Callable[[CrashSite], Awaitable[str]]:
    """Kill the API while it completes a direct upload."""

    async def run(site: CrashSite) -> str:
        content = small()
        begun = (await site.client.post(UPLOADS, json={})).json()
        put = await site.client.put(begun["url"], content=content)
        assert put.is_success, put.text
        headers = {"x-upload-token": begun["upload_token"]}
        headers |= {"idempotency-key": new_key()} if key else {}
        path = f"{UPLOADS}/{begun['upload_id']}/complete"
        site.api.arm(step)
        try:
            answer = await site.client.post(path, headers=headers)
        except httpx.TransportError:
            answer = None
        assert answer is None
        await killed(site, site.api)
        await site.lease_of_key_ends()
        again = await site.client.post(path, headers=headers)
        if again.status_code == 409:
            note = again.json()["error"]["code"]
            found = await site.client.get(f"{IMAGES}/{again.json()['error']['details']['image_id']}")
            sent = Sent(content, found.json())
        else:
            assert again.status_code == 201, again.text
            note, sent = "completed by the repeat", Sent(content, again.json())
        await site.end_direct_uploads()
        orphans = step.startswith("before COMMIT")
        return "; ".join(filter(None, [note, await settled(site, sent, 1, orphans=orphans)]))

    return run


# Processing.


def processing(
    step: str, count: int = 1, *, content_of: Callable[[], bytes] = small
) -> Callable[[CrashSite], Awaitable[str]]:
    """Kill the worker while it makes the renditions of an upload."""

    async def run(site: CrashSite) -> str:
        site.worker.arm(step, count)
        sent = await site.upload(content_of())
        await killed(site, site.worker)
        return await settled(site, sent, 1)

    return run


def child_killed(step: str) -> Callable[[CrashSite], Awaitable[str]]:
    """Kill the child that makes renditions, but not the worker."""

    async def run(site: CrashSite) -> str:
        site.worker.arm(step)
        sent = await site.upload(large())
        async with asyncio.timeout(30):
            while not site.worker.has_fired:
                await asyncio.sleep(0.01)
        note = await settled(site, sent, 1)
        assert site.worker.process is not None
        assert site.worker.process.returncode is None
        return "; ".join(filter(None, ["the worker lives", note]))

    return run


def processing_commit_lost(count: int = 1) -> Callable[[CrashSite], Awaitable[str]]:
    """Lose the answer to the COMMIT that makes renditions known."""

    async def run(site: CrashSite) -> str:
        site.worker.lose("a job", Mode.PASS, count)
        sent = await site.upload(small())
        await site.worker.lost()
        return await settled(site, sent, 1)

    return run


# Deletions.


def deletion(
    step: str, *, by: str = "api", count: int = 1, again: bool = False, signed_in: bool = False
) -> Callable[[CrashSite], Awaitable[str]]:
    """Kill a process while it deletes; with `again` the same content is uploaded right after."""

    async def run(site: CrashSite) -> str:
        headers = await site.account() if signed_in else {}
        sent = await site.upload(content := small(), **headers)
        await site.quiet()
        # So that caches know it.
        await site.is_whole(sent)
        role = site.api if by == "api" else site.worker
        role.arm(step, count)
        answered = await site.delete(sent)
        assert answered is (by == "worker")
        new = await site.upload(content) if again and by == "worker" else None
        await killed(site, role)
        if not answered:
            repeat = await site.client.delete(sent.path, headers=sent.may_delete)
            assert repeat.status_code in {204, 404}, repeat.text
            new = await site.upload(content) if again else None
        await site.quiet()
        await site.is_gone(sent)
        if new:
            return await settled(site, new, 1)
        return await settled(site, Sent(content), 0)

    return run


def expiry(step: str, count: int = 1) -> Callable[[CrashSite], Awaitable[str]]:
    """Kill the worker while it removes what has expired."""

    async def run(site: CrashSite) -> str:
        content = small()
        answer = await site.client.post(IMAGES, params={"expires_in": "3600"}, content=content)
        sent = Sent(content, answer.json())
        await site.quiet()
        await site.is_whole(sent)
        site.worker.arm(step, count)
        await site.expire(sent)
        await killed(site, site.worker)
        await site.expired(sent)
        await site.quiet()
        await site.is_gone(sent)
        return await settled(site, Sent(content), 0)

    return run


def _cells(group: str, made: dict[str, Callable[[CrashSite], Awaitable[str]]]) -> list[Cell]:
    return [Cell(group, step, run) for step, run in made.items()]


def _named(
    make: Callable[..., Callable[[CrashSite], Awaitable[str]]], *steps: str, **options: object
) -> dict[str, Callable[[CrashSite], Awaitable[str]]]:
    return {step: make(step, **options) for step in steps}


def named(*ids: str) -> list[Cell]:
    """Cells by their ids."""
    by_id = {cell.id: cell for cell in CELLS}
    return [by_id[each] for each in ids]


CELLS = [
    *_cells(
        "upload",
        {
            **_named(upload, "slot taken"),
            "body half read": half_a_body,
            **_named(upload, "before the check"),
            **_named(upload, "amid the check", content_of=slow),
            "amid the check, the child": decoder_killed,
            **_named(upload, "after the check", "before the object is put"),
            **_named(
                upload,
                "object begun",
                "object written, not yet in its place",
                "object put",
                "before COMMIT of an upload",
                orphans=True,
            ),
            **_named(upload, "after COMMIT of an upload", "queue told", images=2),
            "answer to COMMIT lost": commit_lost("an upload"),
            "answer to COMMIT lost, then the database": commit_lost("an upload", away=True),
        },
    ),
    *_cells(
        "upload by an account",
        {
            **_named(upload, "before COMMIT of an upload", orphans=True, signed_in=True),
            **_named(upload, "after COMMIT of an upload", images=2, signed_in=True),
        },
    ),
    *_cells(
        "upload of known content",
        {
            **_named(shared, "before COMMIT of an upload", images=2),
            **_named(shared, "after COMMIT of an upload", images=3),
        },
    ),
    *_cells(
        "upload of known content whose object is lost",
        {
            **_named(
                put_back,
                "object written, not yet in its place",
                "object put",
                "before COMMIT of an upload",
                images=2,
            ),
            **_named(put_back, "after COMMIT of an upload", images=3),
        },
    ),
    *_cells(
        "upload with a key",
        {
            **_named(
                with_key,
                "after COMMIT of a claim",
                "before COMMIT of an upload",
                "after COMMIT of an upload",
                "queue told",
            ),
            "answer to COMMIT lost": commit_lost("an upload", key=True),
            "answer to COMMIT lost, then the database": commit_lost("an upload", key=True, away=True),
        },
    ),
    *_cells(
        "direct upload",
        _named(
            direct,
            "before COMMIT of an upload",
            "after COMMIT of an upload",
            "before the quarantine is cleared",
            "quarantine cleared",
        ),
    ),
    *_cells(
        "direct upload with a key",
        _named(
            direct,
            "before COMMIT of an upload",
            "after COMMIT of an upload",
            "before the quarantine is cleared",
            key=True,
        ),
    ),
    *_cells(
        "processing",
        {
            **_named(processing, "blob.renditions taken", "original fetched"),
            **_named(processing, "amid the thumbnails", content_of=large),
            "amid the thumbnails, the child": child_killed("amid the thumbnails, the child"),
            **_named(processing, "thumbnails rendered"),
            **{f"rendition put, {count} of 3": processing("rendition put", count) for count in (1, 2, 3)},
            **_named(processing, "before COMMIT of a job", "after COMMIT of a job"),
            "answer to COMMIT lost": processing_commit_lost(),
            **_named(
                processing,
                "before the caches are told",
                "caches told",
                "blob.renditions done, not acknowledged",
            ),
        },
    ),
    *_cells(
        "optimising",
        {
            **_named(processing, "blob.optimise taken"),
            **_named(processing, "amid the optimising", content_of=large),
            "amid the optimising, the child": child_killed("amid the optimising, the child"),
            **_named(processing, "optimised rendered"),
            "rendition put": processing("rendition put", 4),
            "before COMMIT of a job": processing("before COMMIT of a job", 2),
            "after COMMIT of a job": processing("after COMMIT of a job", 2),
            "answer to COMMIT lost": processing_commit_lost(2),
            **_named(processing, "blob.optimise done, not acknowledged"),
        },
    ),
    *_cells(
        "delete",
        {
            **_named(
                deletion,
                "before COMMIT of a removal",
                "after COMMIT of a removal",
                "caches told",
                "queue told",
            ),
            **_named(
                deletion,
                "image.purge taken",
                "image.purge done, not acknowledged",
                "blob.delete taken",
                by="worker",
            ),
            **{
                f"object deleted, the {count}.": deletion("object deleted", by="worker", count=count)
                for count in (1, 2, 3, 4)
            },
            **_named(
                deletion,
                "before COMMIT of a job",
                "after COMMIT of a job",
                "blob.delete done, not acknowledged",
                by="worker",
            ),
        },
    ),
    *_cells(
        "delete by an account",
        _named(deletion, "before COMMIT of a removal", "after COMMIT of a removal", signed_in=True),
    ),
    *_cells(
        "delete, then upload of the same",
        {
            **_named(deletion, "after COMMIT of a removal", again=True),
            **_named(
                deletion,
                "blob.delete taken",
                "object deleted",
                "before COMMIT of a job",
                by="worker",
                again=True,
            ),
        },
    ),
    *_cells(
        "expiry",
        {
            **_named(
                expiry,
                "before COMMIT of a removal",
                "after COMMIT of a removal",
                "object deleted",
                "blob.delete done, not acknowledged",
            ),
        },
    ),
]

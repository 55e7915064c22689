"""Reading: metadata, conditional requests, thumbnails and files, beside bare Litestar and nginx."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
from valkey.asyncio import Valkey

from benchmarks import capped_api
from benchmarks.load.wrk import asking
from benchmarks.model import Line, Ratio, Run
from benchmarks.peers.bare import running_bare
from benchmarks.peers.static import running_static
from benchmarks.photos import of_bytes
from benchmarks.stack import Stack, running_stack
from chitram.images.public import RenditionKind
from tests.support.renditions import mark_processed, put_rendition
from tests.support.rows import make_images

_THUMBNAIL_BYTES = 20_000
_FILE_BYTES = 200_000
_LARGE_BYTES = 3_000_000
_LARGE_CONNECTIONS = 16
_FEW, _MANY = 1_000, 100_000
# The stand-ins for photos behind rows made in bulk: none of their bytes is asked for.
_BLOBS = 1_000
_BATCH = 1_000
_LOOKED_AT = 50
_IMAGE = "/api/v1/images/"
_HTTP = httpx.codes


@dataclass(frozen=True)
class Kept:
    """An image that was uploaded and processed.

    Attributes:
        path: of its metadata.
        key: of its file in the store.
    """

    path: str
    key: str
    body: bytes
    etag: str
    size: int


async def _keep(stack: Stack, content: bytes) -> Kept:
    """Upload an image, and let it be processed: with a thumbnail of 20 KB."""
    before = set(stack.api.objects())
    uploaded = await stack.api.uploaded(content)
    (key,) = set(stack.api.objects()) - before
    image_id = uploaded["id"]
    store = stack.store
    await store.start()
    try:
        text = len(f"{image_id} {RenditionKind.MEDIUM} by recipe 1. ")
        await put_rendition(
            stack.servers.database_url,
            store,
            image_id,
            RenditionKind.MEDIUM,
            repeat=-(-_THUMBNAIL_BYTES // text),
        )
    finally:
        await store.aclose()
    await mark_processed(stack.servers.database_url, image_id)
    path = _IMAGE + image_id
    return Kept(path, key, await _settled(stack, path), f'"{uploaded["checksum"]}"', uploaded["file_size"])


async def _settled(stack: Stack, path: str) -> bytes:
    """The metadata of an image once no cache has it as it was before it was processed."""
    async with asyncio.timeout(20):
        while True:
            answer = await stack.api.client.get(path)
            if answer.json()["processing"] == "ready":
                return answer.content
            await asyncio.sleep(0.1)


async def _check(url: str, fields: Mapping[str, str] | None = None) -> httpx.Response:
    """Ask once, and look: of many answers the load looks at status and length alone."""
    async with httpx.AsyncClient() as client:
        answer = await client.get(url, headers=fields)
    if answer.status_code not in {_HTTP.OK, _HTTP.NOT_MODIFIED}:
        raise AssertionError(f"{url} answers {answer.status_code}")
    return answer


@contextlib.asynccontextmanager
async def _reading() -> AsyncIterator[Mapping[str, Run]]:
    """Everything that is read of one API, and its peers."""
    async with running_stack() as stack:
        database_url, place = stack.servers.database_url, stack.servers.data_dir
        photo = await _keep(stack, of_bytes(_FILE_BYTES))
        large = await _keep(stack, of_bytes(_LARGE_BYTES))
        some = _listed(place / "some", [made.path for made in await make_images(database_url, _FEW)])
        with (
            running_bare(place, photo.body, stack.servers.valkey_url) as bare,
            running_static(stack.objects) as static,
        ):
            conditional = {"If-None-Match": photo.etag}
            thumbnail, file = f"{photo.path}/thumbnail", f"{photo.path}/file"
            await _check_reading(stack, photo, conditional)
            ours, peer, length = stack.roots(), (bare.pid,), len(photo.body)
            url = stack.url
            yield {
                "metadata": asking(url + photo.path, ours, least_bytes=length),
                "some metadata": asking(url, ours, least_bytes=length // 2, paths=some),
                "not modified": asking(url + file, ours, least_bytes=1, fields=conditional),
                "thumbnail": asking(url + thumbnail, ours, least_bytes=_THUMBNAIL_BYTES),
                "file": asking(url + file, ours, least_bytes=photo.size),
                "large file": asking(
                    f"{url}{large.path}/file", ours, least_bytes=large.size, connections=_LARGE_CONNECTIONS
                ),
                "json": asking(f"{bare.url}/json", peer, least_bytes=length),
                "20 KB": asking(f"{bare.url}/bytes/{_THUMBNAIL_BYTES}", peer, least_bytes=_THUMBNAIL_BYTES),
                "200 KB": asking(f"{bare.url}/bytes/{_FILE_BYTES}", peer, least_bytes=_FILE_BYTES),
                "large static": asking(
                    f"{static.url}/{large.key}",
                    (static.pid,),
                    least_bytes=large.size,
                    connections=_LARGE_CONNECTIONS,
                ),
            }


async def _check_reading(stack: Stack, photo: Kept, conditional: Mapping[str, str]) -> None:
    """See that what is measured is what it is called."""
    url = stack.url + photo.path
    if (await _check(f"{url}/file", conditional)).status_code != _HTTP.NOT_MODIFIED:
        raise AssertionError("the file counts as modified")
    if len((await _check(f"{url}/thumbnail")).content) < _THUMBNAIL_BYTES:
        raise AssertionError("the thumbnail is too small")


@contextlib.asynccontextmanager
async def _shared_cache() -> AsyncIterator[Mapping[str, Run]]:
    """So many images that only Valkey can remember them."""
    async with running_stack(program=capped_api.PROGRAM) as stack:
        servers = stack.servers
        made = await make_images(servers.database_url, _MANY, blobs=_BLOBS)
        ids = [str(each.id) for each in made]
        body = await _warm(stack, ids)
        paths = _listed(servers.data_dir / "paths", [_IMAGE + each for each in ids])
        bare_paths = _listed(servers.data_dir / "bare-paths", [f"/valkey/{each}" for each in ids])
        with running_bare(servers.data_dir, body, servers.valkey_url) as bare:
            valkey = servers.pids[1]
            yield {
                "ours": asking(stack.url, stack.roots(), least_bytes=len(body), paths=paths),
                "peer": asking(bare.url, (bare.pid, valkey), least_bytes=len(body), paths=bare_paths),
            }


async def _warm(stack: Stack, ids: Sequence[str]) -> bytes:
    """Let Valkey remember all images as it remembers the first; returns the metadata of that.

    Rows made in bulk differ in their ids alone, and asking for each would take a minute. What the
    peer reads is put there too, under the ids themselves.
    """
    body = (await stack.api.client.get(_IMAGE + ids[0])).content
    client: Valkey = Valkey.from_url(stack.servers.valkey_url)
    try:
        (name,) = [key async for key in client.scan_iter(match=f"*{ids[0]}*", count=1000)]
        value = await client.get(name)
        encoded = [image_id.encode() for image_id in ids]
        for start in range(0, len(encoded), _BATCH):
            some = encoded[start : start + _BATCH]
            ours = {name.replace(encoded[0], each): value.replace(encoded[0], each) for each in some}
            await client.mset(ours | dict.fromkeys(some, body))
    finally:
        await client.aclose()
    for image_id in secrets.SystemRandom().sample(ids, _LOOKED_AT):
        answer = await stack.api.client.get(_IMAGE + image_id)
        if answer.headers["x-cache"] != "HIT" or answer.json()["id"] != image_id:
            raise AssertionError("Valkey does not remember what it was given")
    return body


@contextlib.asynccontextmanager
async def _accel() -> AsyncIterator[Mapping[str, Run]]:
    """A file through nginx, which asks the API and sends it itself."""
    async with running_stack(nginx=True) as stack:
        photo = await _keep(stack, of_bytes(_FILE_BYTES))
        url = f"{stack.url}{photo.path}/file"
        if len((await _check(url)).content) != photo.size:
            raise AssertionError("nginx sends another file")
        with running_static(stack.objects) as static:
            yield {
                "ours": asking(url, stack.roots(), least_bytes=photo.size),
                "peer": asking(f"{static.url}/{photo.key}", (static.pid,), least_bytes=photo.size),
            }


def _listed(file: Path, paths: list[str]) -> Path:
    file.write_text("\n".join(paths) + "\n")
    return file


_JSON = "bare Litestar, JSON"
LINES: list[Line] = [
    Ratio(
        key="meta-hot",
        title="Metadata of one image",
        against=_JSON,
        least=0.65,
        sides=_reading,
        ours="metadata",
        peer="json",
    ),
    Ratio(
        key="meta-1k",
        title="Metadata of 1,000 images",
        against=_JSON,
        least=0.50,
        sides=_reading,
        ours="some metadata",
        peer="json",
        quick=False,
    ),
    Ratio(
        key="not-modified",
        title="304 on a file",
        against=_JSON,
        least=0.70,
        sides=_reading,
        ours="not modified",
        peer="json",
    ),
    Ratio(
        key="thumb-20k",
        title="Thumbnail of 20 KB",
        against="bare Litestar, 20 KB",
        least=0.65,
        sides=_reading,
        ours="thumbnail",
        peer="20 KB",
    ),
    Ratio(
        key="file-200k",
        title="File of 200 KB",
        against="bare Litestar, 200 KB",
        least=0.65,
        sides=_reading,
        ours="file",
        peer="200 KB",
    ),
    Ratio(
        key="file-3m",
        title="File of 3 MB, 16 connections",
        against="nginx, static file",
        least=0.80,
        sides=_reading,
        ours="large file",
        peer="large static",
    ),
    Ratio(
        key="accel-200k",
        title="File of 200 KB through nginx",
        against="nginx, static file",
        least=0.40,
        sides=_accel,
    ),
    Ratio(
        key="meta-100k",
        title="Metadata of 100,000 images, Valkey warm",
        against="bare Litestar, one Valkey GET",
        least=0.70,
        sides=_shared_cache,
        quick=False,
    ),
]

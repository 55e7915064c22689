"""Valkey: a client that gives up quickly, because everything works without it."""

from __future__ import annotations

from valkey.asyncio import Valkey

from chitram.platform.settings import Settings

CONNECT_SECONDS = 1.0
COMMAND_SECONDS = 2.0


def make_valkey(settings: Settings, *, command_seconds: float = COMMAND_SECONDS) -> Valkey:
    """Make a client; connects when first used.

    Args:
        settings: names the server.
        command_seconds: longest wait for an answer; more for commands that wait on purpose.
    """
    client: Valkey = Valkey.from_url(
        settings.valkey_url,
        socket_connect_timeout=CONNECT_SECONDS,
        socket_timeout=command_seconds,
        socket_keepalive=True,
        health_check_interval=15,
    )
    return client

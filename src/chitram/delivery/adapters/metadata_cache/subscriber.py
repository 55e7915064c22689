"""Hearing from other processes which images they have changed."""

from __future__ import annotations

import asyncio
import contextlib
import time
from uuid import UUID

import structlog
from valkey.asyncio import Valkey
from valkey.asyncio.client import PubSub
from valkey.exceptions import ConnectionError as ValkeyConnectionError
from valkey.exceptions import ValkeyError

from chitram.delivery.adapters.metadata_cache.entries import LocalEntries
from chitram.delivery.adapters.metadata_cache.values import CHANNEL

_QUIET_SECONDS = 0.5
_LOST_SECONDS = 2.0
_FIRST_BACKOFF_SECONDS = 0.1
_LONGEST_BACKOFF_SECONDS = 1.0

_log = structlog.get_logger("chitram.cache")


class Subscriber:
    """Drops entries as other processes say; while it cannot hear them, entries live out their second.

    Args:
        client: for this alone, with a short time to answer.
        entries: what to drop from.
    """

    def __init__(self, client: Valkey, entries: LocalEntries) -> None:
        self._client = client
        self._entries = entries

    async def run(self) -> None:
        """Listen for ever."""
        backoff = _FIRST_BACKOFF_SECONDS
        lost = False
        while True:
            pubsub = self._client.pubsub()
            try:
                await pubsub.subscribe(CHANNEL)
                backoff, lost = _FIRST_BACKOFF_SECONDS, False
                await self._listen(pubsub)
            except (ValkeyError, OSError) as error:
                if not lost:
                    _log.info("subscription lost", cause=type(error).__name__)
                lost = True
            except Exception:  # noqa: BLE001 - a loop that ends would never be missed
                _log.exception("unexpected error", work="subscription")
            finally:
                self._entries.clear()
                with contextlib.suppress(ValkeyError, OSError):
                    await pubsub.aclose()  # type: ignore[no-untyped-call]  # valkey-py leaves it so
            await asyncio.sleep(backoff)
            backoff = min(2 * backoff, _LONGEST_BACKOFF_SECONDS)

    async def _listen(self, pubsub: PubSub) -> None:
        """Raises when nothing is heard any more, not even answers to our own questions."""
        heard_at = time.monotonic()
        while True:
            message = await pubsub.get_message(timeout=_QUIET_SECONDS)
            if message is not None:
                heard_at = time.monotonic()
                self._take(message)
            elif time.monotonic() - heard_at > _LOST_SECONDS:
                raise ValkeyConnectionError("nothing heard")
            else:
                await pubsub.ping()

    def _take(self, message: dict[str, object]) -> None:
        if message["type"] == "subscribe":
            # What was said before has not been heard.
            self._entries.clear()
        elif message["type"] == "message" and isinstance(data := message["data"], bytes):
            with contextlib.suppress(ValueError):
                self._entries.drop(UUID(data.decode()))

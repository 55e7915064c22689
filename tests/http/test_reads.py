"""A read that fails once its answer has begun breaks off; one that fails before is refused."""

from __future__ import annotations

from typing import Any, cast

import pytest
from litestar.types import ASGIApp, Receive, Scope, Send

from chitram.accounts.public import SharedAuthenticator
from chitram.delivery.entrypoints.reads import ReadEndpoints, Reads
from chitram.kernel.errors import StorageUnavailable
from chitram.platform.http.rate_limits import Metering
from tests.http.asgi import Receiver, StoredObject, scope_of, sender
from tests.http.test_send import LARGE, sending


class Unlimited:
    """No limit on anything."""

    def policy(self, _: str) -> None:
        return None


class OneFile:
    """Endpoints that all send the same stored object."""

    def __init__(self, stored: StoredObject) -> None:
        self._stored = stored
        self.metadata = self.thumbnail = self.optimised = self.file

    async def file(self, *_: Any) -> ASGIApp:
        app = sending(scope_of(), self._stored)

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            await app(scope, receive, send)

        return answer


def reads_of(stored: StoredObject) -> Reads:
    return Reads(
        cast("ReadEndpoints", OneFile(stored)),
        cast("SharedAuthenticator", None),
        cast("Metering", Unlimited()),
    )


async def test_a_store_that_fails_within_a_body_breaks_the_answer_off() -> None:
    client, stored = Receiver(), StoredObject(LARGE, fail_from=len(LARGE) // 2)
    with pytest.raises(StorageUnavailable):
        await reads_of(stored).answer("id", "/file", scope_of(), sender(then="silence"), client)
    assert (client.status, client.complete, stored.is_open) == (200, False, False)
    assert client.body == LARGE[: len(client.body)] != b""
    assert len([each for each in client.messages if each["type"] == "http.response.start"]) == 1


async def test_a_store_that_fails_before_the_body_is_told_of() -> None:
    client, stored = Receiver(), StoredObject(LARGE, fail_from=0)
    await reads_of(stored).answer("id", "/file", scope_of(), sender(then="silence"), client)
    assert (client.status, client.complete, stored.is_open) == (503, True, False)
    assert client.headers["retry-after"]

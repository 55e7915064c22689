from __future__ import annotations

import json
from typing import Any, cast

import pytest
from litestar.types import HTTPScope, Message, Receive, Scope, Send

from chitram.platform.http.access_log import AccessLog, truncate_address
from chitram.platform.http.middleware import RequestEnvelope


def a_scope(**fields: Any) -> Scope:
    given: dict[str, Any] = {
        "type": "http",
        "method": "GET",
        "path": "/x",
        "headers": [],
        "client": ("192.0.2.77", 1),
        "query_string": b"delete_token=secret",
    }
    return cast("HTTPScope", given | fields)


async def receive() -> Any:
    return {"type": "http.request", "body": b"", "more_body": False}


async def call(app: Any, scope: Scope, access_log: AccessLog | None = None) -> list[Message]:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await RequestEnvelope(app, access_log)(scope, receive, send)
    return sent


async def logged(app: Any, scope: Scope, addresses: str = "truncated") -> dict[str, Any]:
    """The access line of a request."""
    lines: list[bytes] = []
    await call(app, scope, AccessLog("json", addresses, lines.append))
    [line] = lines
    found: dict[str, Any] = json.loads(line)
    return found


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello", "more_body": False})


def header(messages: list[Any], name: bytes) -> bytes:
    value: bytes = dict(messages[0]["headers"])[name]
    return value


async def test_takes_a_well_formed_request_id() -> None:
    sent = await call(hello, a_scope(headers=[(b"x-request-id", b"abc-1.2_3")]))
    assert header(sent, b"x-request-id") == b"abc-1.2_3"


@pytest.mark.parametrize("given", [b"", b"a b", b"a\r\nx: y", b"x" * 129, "é".encode()])
async def test_replaces_a_malformed_request_id(given: bytes) -> None:
    sent = await call(hello, a_scope(headers=[(b"x-request-id", given)]))
    assert len(header(sent, b"x-request-id")) == 32


async def test_writes_one_access_line_without_query_or_whole_address() -> None:
    line = await logged(hello, a_scope(path="/a\nb"))
    assert line["status"] == 200
    assert line["sent"] == 5
    assert line["path"] == "/a%0Ab"
    assert line["client"] == "192.0.2.0/24"
    assert "secret" not in str(line)


@pytest.mark.parametrize(("policy", "shown"), [("none", None), ("full", "192.0.2.77")])
async def test_shows_as_much_of_the_address_as_the_operator_wants(policy: str, shown: str | None) -> None:
    assert (await logged(hello, a_scope(), policy)).get("client") == shown


async def test_an_escaped_error_is_answered_in_the_one_format() -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError("SELECT secret")

    sent = await call(broken, a_scope())
    assert cast("Any", sent[0])["status"] == 500
    body = json.loads(cast("Any", sent[1])["body"])
    assert body["error"]["code"] == "INTERNAL_ERROR"
    assert "secret" not in str(body)


async def test_an_error_after_the_answer_began_breaks_the_connection() -> None:
    async def half(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError

    with pytest.raises(RuntimeError):
        await call(half, a_scope())


async def test_a_client_that_left_is_logged_as_such() -> None:
    async def nothing(scope: Scope, receive: Receive, send: Send) -> None:
        pass

    assert (await logged(nothing, a_scope()))["status"] == 499


async def test_lets_lifespan_through() -> None:
    async def lifespan(scope: Scope, receive: Receive, send: Send) -> None:
        assert cast("Any", scope)["type"] == "lifespan"

    assert await call(lifespan, cast("Scope", {"type": "lifespan"})) == []


@pytest.mark.parametrize(
    ("address", "kept"),
    [
        ("192.0.2.77", "192.0.2.0/24"),
        ("2001:db8:1:2::7", "2001:db8:1::/48"),
        ("unix:", "unknown"),
    ],
)
def test_truncates_addresses(address: str, kept: str) -> None:
    assert truncate_address(address) == kept

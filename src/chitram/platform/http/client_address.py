"""Who the client is, when trusted proxies stand between."""

from __future__ import annotations

import re
from collections.abc import Awaitable
from functools import lru_cache
from typing import Literal, cast

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

from chitram.platform.networks import IPAddress, Networks, parse_address

ForwardedHeader = Literal["x-forwarded-for", "forwarded"]

# Hops that are looked at, from the nearest. No sensible chain of proxies is longer.
_MOST_HOPS = 32
_LONGEST_HOP = 512
# What is said by a sensible chain; all that is remembered takes 3 MB at most.
_LONGEST_REMEMBERED = 256
_MOST_REMEMBERED = 4096
_PORT = r"(?::(?:\d{1,5}|_[A-Za-z0-9._-]+))?"
_NODE = re.compile(rf"\[(?P<v6>[0-9A-Fa-f:.]+)\]{_PORT}|(?P<v4>[0-9.]+){_PORT}")
# RFC 7239, section 4, with the tokens and quoted strings of RFC 9110, section 5.6.
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - a token of HTTP
_QUOTED = r'"(?:[^"\\]|\\.)*"'
_PAIR = re.compile(rf"\s*({_TOKEN})=(?:({_TOKEN})|({_QUOTED}))\s*(?:;|$)")


class ClientAddress:
    """Outermost ASGI layer: puts the client's own address into the scope, for all that come after.

    The field is read from its right end, where the nearest proxy wrote, and only as far as the
    addresses in it are those of trusted proxies; the first that is not is the client's. What is
    malformed, hidden or unknown ends the walk at the last address believed. The fields of a peer
    that is not trusted change nothing.

    Args:
        app: what is called with the scope.
        trusted: proxies whose word is taken.
        header: the one field that they set. The other they pass on as the client wrote it.
    """

    def __init__(self, app: ASGIApp, trusted: Networks, header: ForwardedHeader) -> None:
        self._app = app
        self._trusted = trusted
        self._header = header
        self._name = header.encode()
        # Clients and proxies say the same again and again.
        self._remembered = lru_cache(_MOST_REMEMBERED)(self._walk)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == ScopeType.HTTP and scope["client"]:
            host, port = scope["client"]
            client = self._client_of(host, scope)
            if client is not None and client != host:
                is_peer = client == _text(host)
                scope = cast("Scope", {**scope, "client": (client, port if is_peer else 0)})
        return self._app(scope, receive, send)

    def _client_of(self, host: str, scope: Scope) -> str | None:
        if not self._trusted:
            return _text(host)
        # Several lines of a field mean what one with commas between them does (RFC 9110, section 5.3).
        said = b",".join([value for key, value in scope["headers"] if key == self._name])
        return self._remembered(host, said) if len(said) <= _LONGEST_REMEMBERED else self._walk(host, said)

    def _walk(self, host: str, said: bytes) -> str | None:
        peer = parse_address(host)
        if peer is None:
            return None
        return str(client_address(peer, said.decode("latin-1"), self._trusted, self._header))


@lru_cache(4096)
def _text(host: str) -> str | None:
    """An address in its usual form; None for what is none."""
    address = parse_address(host)
    return None if address is None else str(address)


def client_address(peer: IPAddress, said: str, trusted: Networks, header: ForwardedHeader) -> IPAddress:
    """Walk from `peer` through the field to the first address that is no trusted proxy."""
    believed = peer
    if believed not in trusted or not said:
        return believed
    # One piece more than is looked at: the rest, unsplit.
    hops = said.rsplit(",", _MOST_HOPS)[-_MOST_HOPS:]
    for hop in reversed(hops):
        found = _address_of(hop, header)
        if found is None:
            break
        believed = found
        if believed not in trusted:
            break
    return believed


def _address_of(hop: str, header: ForwardedHeader) -> IPAddress | None:
    """The address of one element of the field, or None when it has none that can be believed."""
    if len(hop) > _LONGEST_HOP:
        return None
    node = hop.strip(" \t") if header == "x-forwarded-for" else _forwarded_for(hop)
    if not node:
        return None
    if matched := _NODE.fullmatch(node):
        return parse_address(matched["v6"] or matched["v4"])
    return parse_address(node) if header == "x-forwarded-for" else None


def _forwarded_for(element: str) -> str | None:
    """The `for` of an element of `Forwarded`; None when there is not exactly one, or it is malformed.

    Elements were split at commas, quoted or not: a quoted comma, which no address has, leaves
    halves that are malformed.
    """
    found: list[str] = []
    position = 0
    while position < len(element):
        pair = _PAIR.match(element, position)
        if pair is None:
            return None
        name, token, quoted = pair.groups()
        if name.lower() == "for":
            found.append(token or re.sub(r"\\(.)", r"\1", quoted[1:-1]))
        position = pair.end()
    return found[0] if len(found) == 1 else None

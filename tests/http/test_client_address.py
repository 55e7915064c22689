from __future__ import annotations

from ipaddress import IPv4Address, ip_address
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from litestar.types import HTTPScope, Receive, Scope, Send

from chitram.platform.http.client_address import ClientAddress, ForwardedHeader, client_address
from chitram.platform.networks import Networks, parse_address

PROXIES = Networks(["127.0.0.1", "10.0.0.0/8", "2001:db8:ffff::/48"])
PROXY = IPv4Address("127.0.0.1")
STRANGER = IPv4Address("198.51.100.9")
XFF: ForwardedHeader = "x-forwarded-for"
FORWARDED: ForwardedHeader = "forwarded"


def seen(*lines: str, peer: IPv4Address = PROXY, header: ForwardedHeader = XFF) -> str:
    return str(client_address(peer, ",".join(lines), PROXIES, header))


@pytest.mark.parametrize(
    ("lines", "client"),
    [
        ([], "127.0.0.1"),
        (["192.0.2.1"], "192.0.2.1"),
        (["192.0.2.1, 10.1.2.3"], "192.0.2.1"),
        (["192.0.2.1", "10.1.2.3"], "192.0.2.1"),
        # What the client wrote itself stands further left.
        (["203.0.113.5, 192.0.2.1"], "192.0.2.1"),
        (["203.0.113.5", "192.0.2.1,10.1.2.3"], "192.0.2.1"),
        # A chain of proxies only: the farthest is who asks.
        (["10.0.0.7, 10.0.0.8"], "10.0.0.7"),
        (["192.0.2.1:4711"], "192.0.2.1"),
        (["2001:db8::7"], "2001:db8::7"),
        (["[2001:db8::7]"], "2001:db8::7"),
        (["[2001:db8::7]:4711"], "2001:db8::7"),
        (["::ffff:192.0.2.1"], "192.0.2.1"),
        (["192.0.2.1, ::ffff:10.1.2.3"], "192.0.2.1"),
        (["  192.0.2.1\t"], "192.0.2.1"),
    ],
)
def test_the_client_is_the_first_address_from_the_right_that_is_no_proxy(
    lines: list[str], client: str
) -> None:
    assert seen(*lines) == client


@pytest.mark.parametrize(
    "hop",
    [
        "",
        " ",
        "unknown",
        "_hidden",
        "192.0.2",
        "192.0.2.1.5",
        "192.0.2.01",
        "192.0.2.256",
        "192.0.2.1:",
        "192.0.2.1:123456",
        "192.0.2.1:x",
        "[2001:db8::7",
        "2001:db8::7]",
        "[192.0.2.1",
        "fe80::1%eth0",
        "[fe80::1%25eth0]",
        "2001:db8::7::",
        '"192.0.2.1"',
        "for=192.0.2.1",
        "192.0.2.1;proto=https",
        "١٩٢.0.2.1",
        "192.0.2.1\x00",
        "a" * 10_000,
        ":" * 10_000,
    ],
    ids=lambda hop: repr(hop[:20]),
)
def test_a_malformed_hop_ends_the_walk_at_the_last_address_believed(hop: str) -> None:
    assert seen(f"203.0.113.5, {hop}") == "127.0.0.1"
    assert seen(f"203.0.113.5, {hop}, 10.0.0.8") == "10.0.0.8"
    assert seen(f"{hop}, 192.0.2.1") == "192.0.2.1"


@pytest.mark.parametrize(
    ("lines", "client"),
    [
        (["for=192.0.2.1"], "192.0.2.1"),
        (["For=192.0.2.1;Proto=https;by=10.0.0.1"], "192.0.2.1"),
        (["proto=https ; for=192.0.2.1"], "192.0.2.1"),
        (['for="192.0.2.1:4711"'], "192.0.2.1"),
        (['for="[2001:db8::7]"'], "2001:db8::7"),
        (['for="[2001:db8::7]:4711";proto=https'], "2001:db8::7"),
        (['for="[2001:db8::7]:_obfuscated"'], "2001:db8::7"),
        (["for=203.0.113.5, for=192.0.2.1, for=10.1.2.3"], "192.0.2.1"),
        (["for=192.0.2.1", "for=10.1.2.3"], "192.0.2.1"),
        ([r'for="192.0.2\.1"'], "192.0.2.1"),
        (['for=192.0.2.1;host="a;b"'], "192.0.2.1"),
    ],
)
def test_reads_forwarded(lines: list[str], client: str) -> None:
    assert seen(*lines, header=FORWARDED) == client


@pytest.mark.parametrize(
    "hop",
    [
        "",
        "for",
        "for=",
        "for=unknown",
        "for=_hidden",
        "proto=https",
        "for=192.0.2.1;for=192.0.2.2",
        "for=2001:db8::7",
        "for=[2001:db8::7]",
        'for="2001:db8::7"',
        'for="192.0.2.1',
        'for=192.0.2.1"',
        "for = 192.0.2.1",
        "192.0.2.1",
        "for=192.0.2.1;;",
        'for="";proto=https',
        "for=" + "1" * 10_000,
        # What a client may have hidden in a quoted host name.
        'for=192.0.2.1;host="a, for=6.6.6.6"',
        'for=192.0.2.1;host="a, for=6.6.6.6;x=\\""',
        'for="192.0.2.1' + "\\" * 400,
    ],
    ids=lambda hop: repr(hop[:40]),
)
def test_a_malformed_element_of_forwarded_ends_the_walk(hop: str) -> None:
    assert seen(f"for=203.0.113.5, {hop}", header=FORWARDED) == "127.0.0.1"


def test_an_unbalanced_quote_of_the_client_hides_nothing_that_a_proxy_adds() -> None:
    assert seen('for="203.0.113.5', "for=192.0.2.1", header=FORWARDED) == "192.0.2.1"


@pytest.mark.parametrize("header", [XFF, FORWARDED])
def test_the_fields_of_a_stranger_change_nothing(header: ForwardedHeader) -> None:
    for value in ("192.0.2.1", "for=192.0.2.1", "10.0.0.1"):
        assert seen(value, peer=STRANGER, header=header) == str(STRANGER)


def test_no_more_hops_are_looked_at_than_a_sensible_chain_has() -> None:
    assert seen("192.0.2.1, " + ", ".join(["10.0.0.2"] * 31)) == "192.0.2.1"
    assert seen("192.0.2.1, " + ", ".join(["10.0.0.2"] * 32)) == "10.0.0.2"
    assert seen("," * 60_000) == "127.0.0.1"


addresses = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str)


@given(st.lists(st.text(max_size=60)), st.sampled_from([XFF, FORWARDED]))
def test_anything_in_the_field_gives_an_address(lines: list[str], header: ForwardedHeader) -> None:
    ip_address(seen(*lines, header=header))


@given(st.lists(st.text(max_size=60)), st.sampled_from([XFF, FORWARDED]))
def test_nothing_in_the_field_of_a_stranger_is_believed(lines: list[str], header: ForwardedHeader) -> None:
    assert seen(*lines, peer=STRANGER, header=header) == str(STRANGER)


@given(st.text(max_size=200), addresses, st.lists(st.sampled_from(["10.0.0.2", "10.9.9.9"]), max_size=5))
def test_whatever_the_client_writes_the_address_that_a_proxy_saw_counts(
    written: str, client: str, proxies: list[str]
) -> None:
    expected = parse_address(client)
    assert expected is not None
    if expected in PROXIES:
        return
    hops = ", ".join([client, *proxies])
    assert seen(written, hops) == str(expected)
    elements = ", ".join(f'for="[{hop}]"' if ":" in hop else f"for={hop}" for hop in [client, *proxies])
    assert seen(written, elements, header=FORWARDED) == str(expected)


async def scope_of(client: object, *fields: tuple[bytes, bytes], header: ForwardedHeader = XFF) -> Any:
    found: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        found.append(scope["client"])

    given_scope = cast("HTTPScope", {"type": "http", "client": client, "headers": list(fields)})
    await ClientAddress(app, PROXIES, header)(given_scope, cast("Receive", None), cast("Send", None))
    assert given_scope["client"] == client
    return found[0]


async def test_the_scope_names_the_client() -> None:
    field = (b"x-forwarded-for", b"192.0.2.1")
    assert await scope_of(("127.0.0.1", 5), field) == ("192.0.2.1", 0)
    assert await scope_of(("::ffff:127.0.0.1", 5), field) == ("192.0.2.1", 0)
    assert await scope_of(("198.51.100.9", 5), field) == ("198.51.100.9", 5)
    assert await scope_of(("::ffff:198.51.100.9", 5)) == ("198.51.100.9", 5)
    assert await scope_of(None, field) is None
    assert await scope_of(("unix:", 0), field) == ("unix:", 0)


async def test_each_request_is_judged_by_what_it_says_itself() -> None:
    found: list[object] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        found.append(scope["client"])

    layer = ClientAddress(app, PROXIES, XFF)
    first, other, long = b"192.0.2.1", b"192.0.2.2", b"203.0.113.5," * 40 + b"192.0.2.3"
    for peer, field in [
        ("127.0.0.1", first),
        ("127.0.0.1", other),
        ("198.51.100.9", first),
        ("127.0.0.1", first),
        ("127.0.0.1", long),
        ("127.0.0.1", long[1:]),
    ]:
        scope = {"type": "http", "client": (peer, 5), "headers": [(b"x-forwarded-for", field)]}
        await layer(cast("Scope", scope), cast("Receive", None), cast("Send", None))
    assert [cast("tuple[str, int]", client)[0] for client in found] == [
        "192.0.2.1",
        "192.0.2.2",
        "198.51.100.9",
        "192.0.2.1",
        "192.0.2.3",
        "192.0.2.3",
    ]
    assert layer._remembered.cache_info().currsize == 3


async def test_only_the_field_that_the_proxies_set_is_read() -> None:
    fields = (b"x-forwarded-for", b"192.0.2.1"), (b"forwarded", b"for=192.0.2.2")
    assert await scope_of(("127.0.0.1", 5), *fields) == ("192.0.2.1", 0)
    assert await scope_of(("127.0.0.1", 5), *fields, header=FORWARDED) == ("192.0.2.2", 0)


@pytest.mark.parametrize(
    "wrong", ["10.0.0.1/8", "10.0.0.0/33", "localhost", "*", "::ffff:10.0.0.0/104", "10"]
)
def test_a_wrong_network_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"[1l*]"):
        Networks([wrong])

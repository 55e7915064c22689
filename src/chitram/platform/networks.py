"""Network addresses as they come from peers, header fields and settings."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

IPAddress = IPv4Address | IPv6Address

_LONGEST_ADDRESS = 45  # of IPv6 with an IPv4 tail
# RFC 4291, section 2.5.5.2: IPv4 addresses as sockets of IPv6 show them.
_MAPPED = IPv6Network("::ffff:0:0/96")


@lru_cache(4096)
def parse_address(text: str) -> IPAddress | None:
    """Read an address without zone; one of IPv4 mapped to IPv6 is the IPv4 address. None when malformed.

    Connections come from the same addresses again and again, so the last few thousand are remembered.
    """
    if len(text) > _LONGEST_ADDRESS or "%" in text:
        return None
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped
    return address


class Networks:
    """A set of addresses and networks in CIDR notation.

    Raises `ValueError`, which says what is wrong, for anything else.
    """

    def __init__(self, values: Iterable[str]) -> None:
        self._networks = tuple(_parse_network(value) for value in values)

    def __contains__(self, address: IPAddress) -> bool:
        return any(address in network for network in self._networks)

    def __bool__(self) -> bool:
        return bool(self._networks)


def _parse_network(text: str) -> IPv4Network | IPv6Network:
    network = ip_network(text)
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        raise ValueError(f"{text!r} is IPv4 written as IPv6: write it as IPv4")
    return network

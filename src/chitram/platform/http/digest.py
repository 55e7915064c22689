"""Repr-Digest and Content-Digest (RFC 9530): dictionaries of structured fields (RFC 8941)."""

from __future__ import annotations

import binascii
import re

from chitram.kernel.errors import InvalidRequest

_SHA256_BYTES = 32
_KEY = r"[a-z*][a-z0-9_.*-]*+"
_BARE_ITEM = r"""
    (?: :[A-Za-z0-9+/=]*+:
      | "(?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*+"
      | -?[0-9]{1,15}+(?:\.[0-9]{1,3}+)?+
      | \?[01]
      | [A-Za-z*][A-Za-z0-9!#$%&'*+.^_`|~:/-]*+ )
"""
_PARAMETERS = rf"(?:;[ ]*+{_KEY}(?:={_BARE_ITEM})?+)*+"
_MEMBER = re.compile(rf"(?P<key>{_KEY})(?:=(?P<item>{_BARE_ITEM}))?+{_PARAMETERS}", re.VERBOSE)
_COMMA = re.compile(r"[ \t]*+,[ \t]*+")


def parse_repr_digest(value: str | None) -> bytes | None:
    """The SHA-256 digest, 32 bytes, that a digest field gives.

    None when there is no field, or none with the algorithm `sha-256`. Raises `InvalidRequest` when
    the field is malformed.
    """
    item = _members(value.strip(" ") if value else "").get("sha-256")
    if item is None:
        return None
    if not item.startswith(":"):
        raise _malformed()
    try:
        digest = binascii.a2b_base64(item[1:-1], strict_mode=True)
    except binascii.Error:
        raise _malformed() from None
    if len(digest) != _SHA256_BYTES:
        raise _malformed()
    return digest


def _members(text: str) -> dict[str, str]:
    """The bare items of a dictionary, as they are written; a member without one is true."""
    members: dict[str, str] = {}
    position = 0
    while position < len(text) or members:
        if not (member := _MEMBER.match(text, position)):
            raise _malformed()
        members[member["key"]] = member["item"] or "?1"
        position = member.end()
        if position == len(text):
            break
        if not (comma := _COMMA.match(text, position)):
            raise _malformed()
        position = comma.end()
    return members


def _malformed() -> InvalidRequest:
    return InvalidRequest(
        "The digest is not a dictionary like `sha-256=:…:` (RFC 9530).", details={"field": "Repr-Digest"}
    )

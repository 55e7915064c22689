"""The Content-Disposition of an answer (RFC 6266, RFC 8187)."""

from __future__ import annotations

import re
from typing import Literal
from urllib.parse import quote

_MAX_BYTES = 255
# Percent signs and backslashes are left out too: clients differ in whether they decode them.
_PLAIN = re.compile(r"[A-Za-z0-9!#$&'()+,.;=@\[\]^_`{}~ -]*")
_NOT_PLAIN = re.compile(r"[^A-Za-z0-9!#$&'()+,.;=@\[\]^_`{}~ -]")
# RFC 8187, attr-char; letters and digits `quote` keeps by itself.
_ATTRIBUTE_CHARACTERS = "!#$&+-.^_`|~"


def content_disposition(kind: Literal["inline", "attachment"], filename: str) -> str:
    """Make the header value for any name: printable ASCII, at most about 1100 characters.

    A name that not every client reads alike comes twice: in ASCII with underscores, and whole in
    `filename*`. Without a name the value is `kind` alone.
    """
    encoded = filename.encode(errors="replace")[:_MAX_BYTES]
    name = encoded.decode(errors="ignore")
    if not name:
        return kind
    if _PLAIN.fullmatch(name):
        return f'{kind}; filename="{name}"'
    fallback = _NOT_PLAIN.sub("_", name)
    extended = quote(name, safe=_ATTRIBUTE_CHARACTERS)
    return f"{kind}; filename=\"{fallback}\"; filename*=UTF-8''{extended}"

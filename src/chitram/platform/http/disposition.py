"""Header parameters, and the file name in a request's Content-Disposition (RFC 6266, RFC 8187)."""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

# A name of 255 bytes, percent-encoded and given twice, fits four times over.
_MAX_CHARACTERS = 8192
# One parameter, or the bare value in front of all; possessive, so that nothing is tried twice.
_PART = re.compile(
    r"""
    \s*+
    (?P<name> [^\s;="]++ )?+
    (?: \s*+ = \s*+ (?P<value> "(?:[^"\\]++|\\.)*+" | [^;]*+ ) )?+
    \s*+ (?: ; | $ )
    """,
    re.VERBOSE | re.DOTALL,
)
_EXTENDED = re.compile(r"(?P<charset>[A-Za-z0-9-]+)'[A-Za-z0-9-]*'(?P<text>[!-~]*)")


def parse_parameters(value: str) -> tuple[str, dict[str, str]]:
    """Split `type; name=value; other="quoted value"` into its lower-case type and parameters.

    Lenient: unquoted values may hold spaces, the type may be missing, the first of two parameters
    with the same name counts, and what cannot be understood ends the list. Linear in its length.
    """
    kind, parameters = "", dict[str, str]()
    position, end = 0, len(value)
    while position < end and (part := _PART.match(value, position)):
        name, text = (part["name"] or "").lower(), part["value"]
        if text is not None:
            parameters.setdefault(name, _unquote(text))
        elif position == 0:
            kind = name
        position = part.end()
    return kind, parameters


def _unquote(text: str) -> str:
    if len(text) < 2 or not (text[0] == text[-1] == '"'):  # noqa: PLR2004 - two quotes
        return text.strip()
    # Only these two escapes: old clients send Windows paths with bare backslashes.
    return re.sub(r'\\(["\\])', r"\1", text[1:-1])


def decode_extended(value: str) -> str | None:
    """Decode an extended parameter value, `UTF-8''na%C3%AFve` (RFC 8187); None when malformed."""
    if not (match := _EXTENDED.fullmatch(value)):
        return None
    charset = match["charset"].lower()
    if charset not in {"utf-8", "iso-8859-1"}:
        return None
    try:
        return unquote_to_bytes(match["text"]).decode(charset)
    except UnicodeDecodeError:
        return None


def filename_from_disposition(value: str) -> str | None:
    """The file name that a request's Content-Disposition gives, or None.

    `filename*` counts before `filename`. Bytes beyond ASCII, which reach us as Latin-1, are taken
    for the UTF-8 that today's clients send. The name is as hostile as its sender.
    """
    if len(value) > _MAX_CHARACTERS:
        return None
    _, parameters = parse_parameters(value)
    extended = decode_extended(parameters.get("filename*", ""))
    if extended is not None:
        return extended
    plain = parameters.get("filename")
    if plain is None:
        return None
    try:
        return plain.encode("latin-1").decode()
    except UnicodeError:
        return plain

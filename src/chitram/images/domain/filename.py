"""File names as people gave them, made safe to keep and to send."""

from __future__ import annotations

import unicodedata

from chitram.kernel.text import is_harmless

MAX_BYTES = 255
# Normalising a long run of combining marks takes quadratic time; no honest name is this long.
_MAX_CHARACTERS = 1024
_LONGEST_EXTENSION_BYTES = 16
_SEPARATORS = str.maketrans("\\", "/")
_ZERO_WIDTH_JOINER = "\u200d"
_SKIN_TONES = range(0x1F3FB, 0x1F400)


def sanitise_filename(raw: str | None, extension: str) -> str:
    """Make a name of 1 to 255 bytes of UTF-8, for any text: an empty one is `image.` and `extension`."""
    return clean_filename(raw) or f"image.{extension}"


def clean_filename(raw: str | None) -> str:
    """Make a name of 0 to 255 bytes of UTF-8, for any text.

    Only what stands after the last slash or backslash is kept, in NFC, without characters that
    control anything, without dots and spaces at either end. A name that is too long is cut between
    characters and keeps its ending.
    """
    name = (raw or "").translate(_SEPARATORS).rpartition("/")[2]
    name = _shorten(name)
    name = "".join(filter(is_harmless, name))
    name = _trim(unicodedata.normalize("NFC", name))
    return _trim(_fit(name))


def _shorten(name: str) -> str:
    if len(name) <= _MAX_CHARACTERS:
        return name
    return name[: _MAX_CHARACTERS - _LONGEST_EXTENSION_BYTES] + name[-_LONGEST_EXTENSION_BYTES:]


def _trim(name: str) -> str:
    while name != (trimmed := name.strip().strip(".")):
        name = trimmed
    return name


def _fit(name: str) -> str:
    """Cut a name to `MAX_BYTES`, keeping a short ending such as `.jpeg`."""
    if len(name.encode()) <= MAX_BYTES:
        return name
    stem, dot, ending = name.rpartition(".")
    if not dot or len(ending.encode()) >= _LONGEST_EXTENSION_BYTES:
        return _cut(name, MAX_BYTES)
    return _cut(stem, MAX_BYTES - len(ending.encode()) - 1) + dot + ending


def _cut(text: str, max_bytes: int) -> str:
    """Cut before a character, together with the marks that follow it, rather than within one."""
    longest = len(text.encode()[:max_bytes].decode(errors="ignore"))
    end = longest
    while 0 < end < len(text) and _belong_together(text[end - 1], text[end]):
        end -= 1
    return text[: end or longest]


def _belong_together(before: str, after: str) -> bool:
    return (
        _ZERO_WIDTH_JOINER in {before, after}
        or unicodedata.category(after).startswith("M")
        or ord(after) in _SKIN_TONES
    )

"""Conditional requests (RFC 9110, section 13)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from enum import Enum, auto

from chitram.delivery.domain.dates import parse_http_date

_TAG = r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*+"'
_ONE_TAG = re.compile(_TAG)
_TAG_LIST = re.compile(rf"[ \t,]*+{_TAG}(?:[ \t]*+,[ \t,]*+{_TAG})*+[ \t,]*+")
_SAFE_METHODS = frozenset({"GET", "HEAD"})


class Outcome(Enum):
    """What the preconditions of a request lead to."""

    PROCEED = auto()
    NOT_MODIFIED = auto()
    PRECONDITION_FAILED = auto()


def evaluate(method: str, headers: Mapping[str, str], etag: str, last_modified: datetime) -> Outcome:
    """Evaluate the preconditions in the order of section 13.2.2.

    Args:
        method: of the request.
        headers: of the request, names in lower case, lines of one name joined by commas.
        etag: strong entity tag of what is there, with its quotes.
        last_modified: aware time of its last change.
    """
    modified = last_modified.replace(microsecond=0)
    if not _may_go_on(headers, etag, modified):
        return Outcome.PRECONDITION_FAILED
    if _is_known(method, headers, etag, modified):
        return Outcome.NOT_MODIFIED if method in _SAFE_METHODS else Outcome.PRECONDITION_FAILED
    return Outcome.PROCEED


def _may_go_on(headers: Mapping[str, str], etag: str, modified: datetime) -> bool:
    """If-Match, or without it If-Unmodified-Since."""
    if (wanted := headers.get("if-match")) is not None:
        return wanted.strip() == "*" or etag in entity_tags(wanted)
    since = parse_http_date(headers.get("if-unmodified-since", ""))
    return since is None or modified <= since


def _is_known(method: str, headers: Mapping[str, str], etag: str, modified: datetime) -> bool:
    """If-None-Match, or without it If-Modified-Since: whether the client has this already."""
    if (known := headers.get("if-none-match")) is not None:
        return known.strip() == "*" or etag in {tag.removeprefix("W/") for tag in entity_tags(known)}
    since = parse_http_date(headers.get("if-modified-since", "")) if method in _SAFE_METHODS else None
    return since is not None and modified <= since


def entity_tags(value: str) -> tuple[str, ...]:
    """The tags of a list, as they are written; a malformed list has none."""
    return tuple(_ONE_TAG.findall(value)) if _TAG_LIST.fullmatch(value) else ()


def range_applies(if_range: str | None, etag: str, last_modified: datetime) -> bool:
    """Whether If-Range lets a Range header count: by strong tag, or by the very date."""
    if if_range is None:
        return True
    if '"' in if_range:
        return if_range.strip() == etag
    return parse_http_date(if_range) == last_modified.replace(microsecond=0)

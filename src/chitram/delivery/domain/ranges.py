"""Which bytes a Range header asks for (RFC 9110, section 14)."""

from __future__ import annotations

import re
from dataclasses import dataclass

# More than any player or download manager asks for at once; beyond it the header is ignored.
MAX_RANGES = 8
_SPEC = re.compile(r"(?P<first>[0-9]*+)-(?P<last>[0-9]*+)", re.ASCII)
# Larger than any object; a number of more digits is cut down to it before it is converted.
_HUGE = 10**18
_HUGE_DIGITS = 18


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes `first` to `last`, both included."""

    first: int
    last: int

    @property
    def length(self) -> int:
        """Number of bytes."""
        return self.last - self.first + 1


def parse_range(header: str | None, size: int) -> tuple[ByteRange, ...] | None:
    """Resolve a Range header against a representation of `size` bytes.

    Returns None when the header is absent, malformed, of another unit or asks for more than
    `MAX_RANGES` ranges: then the whole is the answer. Returns no range at all when none can be
    satisfied. Ranges that touch or overlap are joined, so the sum is never above `size`; others stay
    in the order asked for.
    """
    unit, equals, rest = (header or "").partition("=")
    if not equals or unit.strip().lower() != "bytes":
        return None
    specs = [spec.strip(" \t") for spec in rest.split(",", 4 * MAX_RANGES)]
    matches = [_SPEC.fullmatch(spec) for spec in specs if spec]
    if not 1 <= len(matches) <= MAX_RANGES:
        return None
    ranges: list[ByteRange] = []
    for match in matches:
        if match is None or match[0] == "-":
            return None
        first, last = _number(match["first"]), _number(match["last"])
        if first is not None and last is not None and last < first:
            return None
        if (resolved := _resolve(first, last, size)) is not None:
            ranges.append(resolved)
    return _join(ranges)


def _number(digits: str) -> int | None:
    digits = digits.lstrip("0") or digits[:1]
    if not digits:
        return None
    return int(digits) if len(digits) <= _HUGE_DIGITS else _HUGE


def _resolve(first: int | None, last: int | None, size: int) -> ByteRange | None:
    """The bytes of one range that exist; None when there are none."""
    if first is None:
        first, last = max(0, size - (last or 0)), None
    last = size - 1 if last is None else min(last, size - 1)
    return ByteRange(first, last) if first <= last else None


def _join(ranges: list[ByteRange]) -> tuple[ByteRange, ...]:
    joined: list[ByteRange] = []
    for current in sorted(ranges, key=lambda part: part.first):
        if joined and current.first <= joined[-1].last + 1:
            joined[-1] = ByteRange(joined[-1].first, max(joined[-1].last, current.last))
        else:
            joined.append(current)
    return tuple(ranges if len(joined) == len(ranges) else joined)

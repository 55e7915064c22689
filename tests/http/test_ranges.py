from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chitram.delivery.domain.ranges import MAX_RANGES, ByteRange, parse_range


def positions(header: str, size: int) -> list[tuple[int, int]] | None:
    parsed = parse_range(header, size)
    return None if parsed is None else [(part.first, part.last) for part in parsed]


@pytest.mark.parametrize(
    ("header", "ranges"),
    [
        ("bytes=0-0", [(0, 0)]),
        ("bytes=0-99", [(0, 99)]),
        ("bytes=10-", [(10, 99)]),
        ("bytes=-10", [(90, 99)]),
        ("bytes=-1000", [(0, 99)]),
        ("bytes=90-1000", [(90, 99)]),
        ("bytes=0-" + "9" * 5000, [(0, 99)]),
        ("bytes=" + "0" * 5000 + "7-8", [(7, 8)]),
        ("BYTES=0-1", [(0, 1)]),
        ("bytes= 0-1 ,\t5-6 ", [(0, 1), (5, 6)]),
        ("bytes=,0-1,,5-6,", [(0, 1), (5, 6)]),
        ("bytes=50-60,0-9", [(50, 60), (0, 9)]),
        ("bytes=0-9,5-19", [(0, 19)]),
        ("bytes=10-19,0-9", [(0, 19)]),
        ("bytes=0-,-1", [(0, 99)]),
        ("bytes=100-,0-1", [(0, 1)]),
        ("bytes=100-", []),
        ("bytes=" + "9" * 5000 + "-", []),
        ("bytes=-0", []),
        ("bytes=100-200,-0", []),
    ],
)
def test_a_range_is_resolved_against_the_size(header: str, ranges: list[tuple[int, int]]) -> None:
    assert positions(header, 100) == ranges


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "bytes",
        "bytes=",
        "bytes=,",
        "bytes=-",
        "bytes=a-b",
        "bytes=5-4",
        "bytes=0-1,5-4",
        "bytes=0-1;5-6",
        "bytes=0 - 1",
        "bytes=--1",
        "bytes=+1-2",
        "bytes=0x1-2",
        "bytes=\u0661-\u0662",
        "bytes=1.0-2",
        "seconds=0-1",
        "bytes=" + ",".join(f"{n * 3}-{n * 3}" for n in range(MAX_RANGES + 1)),
        "bytes=" + "," * 100_000 + "0-1",
    ],
)
def test_a_header_is_ignored_that_is_malformed_or_asks_for_too_much(header: str | None) -> None:
    assert parse_range(header, 100) is None


def test_as_many_ranges_as_allowed_are_accepted() -> None:
    assert (
        len(parse_range("bytes=" + ",".join(f"{n * 3}-{n * 3}" for n in range(MAX_RANGES)), 100) or ()) == 8
    )


def test_an_empty_file_has_no_bytes_to_satisfy_a_range() -> None:
    assert positions("bytes=0-", 0) == []
    assert positions("bytes=-5", 0) == []


SPECS = st.one_of(
    st.tuples(st.integers(0, 120), st.one_of(st.none(), st.integers(0, 120))),
    st.tuples(st.none(), st.integers(0, 120)),
)


def asked_for(first: int | None, last: int | None, content: bytes) -> bytes:
    """What RFC 9110, section 14.1.2 says, in Python's own slices."""
    if first is None:
        return content[-last:] if last else b""
    return content[first:] if last is None else content[first : last + 1]


@given(st.lists(SPECS, min_size=1, max_size=MAX_RANGES), st.integers(1, 100))
def test_ranges_hold_exactly_the_bytes_asked_for(
    specs: list[tuple[int | None, int | None]], size: int
) -> None:
    content = bytes(range(size))
    header = ",".join(
        f"{'' if first is None else first}-{'' if last is None else last}" for first, last in specs
    )
    ranges = parse_range(f"bytes={header}", size)
    if any(first is not None and last is not None and last < first for first, last in specs):
        assert ranges is None
        return
    assert ranges is not None
    expected = [piece for piece in (asked_for(*spec, content) for spec in specs) if piece]
    sent = [content[part.first : part.last + 1] for part in ranges]
    assert set(b"".join(sent)) == set(b"".join(expected))
    assert sum(map(len, sent)) == len(set(b"".join(sent)))
    assert [len(piece) for piece in sent] == [part.length for part in ranges]
    if len(sent) == len(expected):
        assert sent == expected


@given(st.one_of(st.text(), st.from_regex(re.compile(r"bytes=[-0-9, ]{0,60}", re.ASCII))), st.integers(0, 50))
def test_no_header_asks_for_more_than_there_is(header: str, size: int) -> None:
    ranges = parse_range(header, size)
    assert ranges is None or sum(part.length for part in ranges) <= size
    assert all(0 <= part.first <= part.last < size for part in ranges or ())


def test_a_range_knows_its_length() -> None:
    assert ByteRange(10, 19).length == 10

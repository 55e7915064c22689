from __future__ import annotations

from typing import Any, cast

from litestar.types import HTTPScope

from chitram.platform.http.head import RequestHead, _remembered_query


def head(*fields: tuple[bytes, bytes], query: bytes = b"") -> RequestHead:
    given: Any = {"type": "http", "method": "GET", "path": "/x", "query_string": query, "headers": fields}
    return RequestHead(cast("HTTPScope", given))


def test_several_lines_of_a_field_are_one_list() -> None:
    found = head((b"accept", b"a"), (b"x", b"y"), (b"accept", b"b"), (b"accept", b"c"))
    assert found.line(b"accept") == "a, b, c"
    assert found.getall("Accept", []) == ["a, b, c"]
    assert (found.line(b"if-match"), found.getall("If-Match", [])) == (None, [])


def test_any_byte_may_stand_in_a_field() -> None:
    assert head((b"x", bytes(range(256)))).line(b"x") == bytes(range(256)).decode("latin-1")


def test_of_some_fields_those_that_are_there_are_named() -> None:
    wanted = {b"range": "range", b"if-match": "if-match", b"if-range": "if-range"}
    assert head((b"if-range", b""), (b"range", b"bytes=0-")).lines(wanted) == {"range": "bytes=0-"}


def test_parameters_come_in_their_order_and_decoded() -> None:
    found = head(query=b"size=a&x=1&size=%C3%A9+b&size=&y")
    assert found.parameters("size") == ["a", "é b", ""]
    assert found.parameters("y") == [""]
    assert head().parameters("size") == []


def test_a_query_of_many_parameters_is_read_and_not_remembered() -> None:
    _remembered_query.cache_clear()
    assert head(query=b"a&" * 30_000 + b"size=small").parameters("size") == ["small"]
    assert _remembered_query.cache_info().currsize == 0

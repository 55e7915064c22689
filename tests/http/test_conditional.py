from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chitram.delivery.domain.conditional import Outcome, entity_tags, evaluate, range_applies
from chitram.delivery.domain.dates import http_date, parse_http_date

TAG = '"abc"'
CHANGED = datetime(2026, 3, 4, 5, 6, 7, 890_000, tzinfo=UTC)
SAME = "Wed, 04 Mar 2026 05:06:07 GMT"
BEFORE = "Wed, 04 Mar 2026 05:06:06 GMT"
AFTER = "Wed, 04 Mar 2026 05:06:08 GMT"


@pytest.mark.parametrize(
    ("headers", "outcome"),
    [
        ({}, Outcome.PROCEED),
        ({"if-match": TAG}, Outcome.PROCEED),
        ({"if-match": "*"}, Outcome.PROCEED),
        ({"if-match": f'"x", {TAG}'}, Outcome.PROCEED),
        ({"if-match": '"x"'}, Outcome.PRECONDITION_FAILED),
        ({"if-match": f"W/{TAG}"}, Outcome.PRECONDITION_FAILED),
        ({"if-match": "abc"}, Outcome.PRECONDITION_FAILED),
        ({"if-match": TAG, "if-unmodified-since": BEFORE}, Outcome.PROCEED),
        ({"if-unmodified-since": SAME}, Outcome.PROCEED),
        ({"if-unmodified-since": BEFORE}, Outcome.PRECONDITION_FAILED),
        ({"if-unmodified-since": "yesterday"}, Outcome.PROCEED),
        ({"if-none-match": TAG}, Outcome.NOT_MODIFIED),
        ({"if-none-match": f"W/{TAG}"}, Outcome.NOT_MODIFIED),
        ({"if-none-match": f'"x" , W/{TAG}'}, Outcome.NOT_MODIFIED),
        ({"if-none-match": " * "}, Outcome.NOT_MODIFIED),
        ({"if-none-match": '"x"'}, Outcome.PROCEED),
        ({"if-none-match": "abc"}, Outcome.PROCEED),
        ({"if-none-match": '"x"', "if-modified-since": SAME}, Outcome.PROCEED),
        ({"if-modified-since": SAME}, Outcome.NOT_MODIFIED),
        ({"if-modified-since": AFTER}, Outcome.NOT_MODIFIED),
        ({"if-modified-since": BEFORE}, Outcome.PROCEED),
        ({"if-modified-since": "Wed, 99 Mar 2026 05:06:07 GMT"}, Outcome.PROCEED),
        ({"if-match": '"x"', "if-none-match": TAG}, Outcome.PRECONDITION_FAILED),
        ({"if-match": TAG, "if-none-match": TAG}, Outcome.NOT_MODIFIED),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_conditions_are_evaluated_in_the_order_of_the_standard(
    method: str, headers: dict[str, str], outcome: Outcome
) -> None:
    assert evaluate(method, headers, TAG, CHANGED) is outcome


def test_other_methods_fail_where_reading_is_not_modified() -> None:
    assert evaluate("DELETE", {"if-none-match": "*"}, TAG, CHANGED) is Outcome.PRECONDITION_FAILED
    assert evaluate("DELETE", {"if-modified-since": AFTER}, TAG, CHANGED) is Outcome.PROCEED


@pytest.mark.parametrize(
    ("if_range", "applies"),
    [
        (None, True),
        (TAG, True),
        (f"W/{TAG}", False),
        ('"x"', False),
        (SAME, True),
        (BEFORE, False),
        (AFTER, False),
        ("nonsense", False),
        ("", False),
    ],
)
def test_a_range_applies_only_to_the_very_representation(if_range: str | None, *, applies: bool) -> None:
    assert range_applies(if_range, TAG, CHANGED) is applies


@pytest.mark.parametrize(
    "text",
    [
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
        " Sun, 06 Nov 1994 08:49:37 GMT ",
    ],
)
def test_dates_are_read_in_all_three_formats(text: str) -> None:
    assert parse_http_date(text) == datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)


def test_a_year_of_two_digits_may_lie_in_this_century() -> None:
    date = parse_http_date("Wednesday, 04-Mar-26 05:06:07 GMT")
    assert date is not None
    assert date.year == 2026


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 06 Nov 1994 08:49:37 +0000",
        "Sun, 06 nov 1994 08:49:37 GMT",
        "Sun, 6 Nov 1994 08:49:37 GMT",
        "Sun, 31 Feb 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 24:00:00 GMT",
        "Sun, 06 Nov 0000 08:49:37 GMT",
        "Sun, 06 Nov ١٩٩٤ 08:49:37 GMT",
        "1994-11-06T08:49:37Z",
    ],
)
def test_what_is_no_date_of_http_is_none(text: str) -> None:
    assert parse_http_date(text) is None


@given(st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC)))  # noqa: DTZ001 - bounds are naive
def test_a_date_that_was_written_is_read_back_to_the_second(moment: datetime) -> None:
    assert parse_http_date(http_date(moment)) == moment.replace(microsecond=0)


def test_a_date_is_written_in_universal_time() -> None:
    assert http_date(CHANGED.astimezone(timezone(timedelta(hours=5, minutes=30)))) == SAME


TAGS = st.from_regex(r'(W/)?"[\x21\x23-\x7e\x80-\xff]{0,9}"', fullmatch=True)
SEPARATORS = st.from_regex(r"[ \t]{0,2},[ \t,]{0,3}", fullmatch=True)


@given(st.lists(TAGS, min_size=1, max_size=6), st.data())
def test_a_list_of_tags_is_read_whatever_stands_between_them(tags: list[str], data: st.DataObject) -> None:
    text = data.draw(st.text(" ,\t", max_size=3))
    for index, tag in enumerate(tags):
        text += data.draw(SEPARATORS) + tag if index else tag
    assert entity_tags(text + data.draw(st.text(" ,\t", max_size=3))) == tuple(tags)


@given(st.one_of(st.text(), st.text('W/",* ax', max_size=30)))
def test_no_header_is_too_odd_to_evaluate(value: str) -> None:
    for name in ("if-match", "if-none-match", "if-modified-since", "if-unmodified-since"):
        evaluate("GET", {name: value}, TAG, CHANGED)
    range_applies(value, TAG, CHANGED)

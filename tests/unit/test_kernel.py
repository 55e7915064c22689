from __future__ import annotations

from datetime import UTC, datetime, timedelta

from chitram.kernel.clock import SystemClock
from chitram.kernel.errors import ChitramError, DatabaseUnavailable
from chitram.kernel.ids import id_time, new_id

MOMENT = datetime(2026, 11, 22, 12, 30, 15, 123000, tzinfo=UTC)


def test_ids_are_version_7_with_the_rfc_variant() -> None:
    made = new_id(MOMENT)
    assert made.version == 7
    assert made.variant == "specified in RFC 4122"


def test_ids_sort_by_time() -> None:
    later = [new_id(MOMENT + timedelta(milliseconds=step)) for step in range(100)]
    assert later == sorted(later)


def test_an_id_tells_its_time_to_the_millisecond() -> None:
    assert id_time(new_id(MOMENT)) == MOMENT


def test_ids_of_one_moment_differ_in_all_their_random_bits() -> None:
    ids = [new_id(MOMENT).int for _ in range(2000)]
    assert len(set(ids)) == len(ids)
    changed = 0
    for made in ids:
        changed |= made ^ ids[0]
    assert changed.bit_count() == 74


def test_the_clock_of_the_machine_is_aware() -> None:
    assert SystemClock().now().tzinfo is UTC


def test_an_error_carries_its_code_and_a_default_message() -> None:
    error = DatabaseUnavailable()
    assert (error.code, error.retry_after) == ("DATABASE_UNAVAILABLE", 2)
    assert error.message == DatabaseUnavailable.default_message
    assert ChitramError("Said so.", details={"a": 1}).details == {"a": 1}

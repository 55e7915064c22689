from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from chitram.delivery.domain.caching import cache_control

NOW = datetime(2026, 3, 4, tzinfo=UTC)


@pytest.mark.parametrize("visibility", ["public", "unlisted"])
def test_what_everyone_may_see_is_kept_for_a_year(visibility: str) -> None:
    assert cache_control(visibility, None, NOW) == "public, max-age=31536000, immutable"


@pytest.mark.parametrize(
    ("life", "seconds"),
    [
        (timedelta(minutes=10, milliseconds=900), 600),
        (timedelta(days=3650), 31_536_000),
        (timedelta(seconds=-5), 0),
    ],
)
def test_what_expires_is_kept_for_its_remaining_life_at_most(life: timedelta, seconds: int) -> None:
    assert cache_control("public", NOW + life, NOW) == f"public, max-age={seconds}"


@pytest.mark.parametrize("visibility", ["private", "", "something new"])
def test_what_is_not_known_to_be_for_everyone_is_kept_by_nobody(visibility: str) -> None:
    assert cache_control(visibility, None, NOW) == "private, no-store"

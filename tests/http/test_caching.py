from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from chitram.delivery.domain.caching import cache_control, rendition_cache_control

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


@pytest.mark.parametrize(
    ("life", "seconds"),
    [(None, 86_400), (timedelta(days=2), 86_400), (timedelta(seconds=9.9), 9), (timedelta(seconds=-5), 0)],
)
def test_a_rendition_is_kept_for_a_day_and_asked_for_again(life: timedelta | None, seconds: int) -> None:
    for visibility in ("public", "unlisted"):
        kept = rendition_cache_control(visibility, NOW + life if life else None, NOW)
        assert kept == f"public, max-age={seconds}"


@pytest.mark.parametrize("visibility", ["private", "", "something new"])
def test_what_is_not_known_to_be_for_everyone_is_kept_by_nobody(visibility: str) -> None:
    assert cache_control(visibility, None, NOW) == "private, no-store"
    assert rendition_cache_control(visibility, None, NOW) == "private, no-store"

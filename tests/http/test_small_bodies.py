"""Small bodies are kept while they are read again, and take no more memory than they may."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest

from chitram.delivery.entrypoints.small_bodies import SMALL_BYTES, SmallBodies
from chitram.delivery.representations import Representation


def chosen(key: str = "a-key") -> Representation:
    return Representation(
        blob_id=UUID(int=0),
        shard="local",
        key=key,
        media_type="image/jpeg",
        size=10,
        checksum="abc",
        last_modified=datetime(2026, 3, 4, tzinfo=UTC),
        filename="photo.jpg",
    )


def keep(bodies: SmallBodies, kept: Representation, body: bytes) -> None:
    bodies.read(kept, body)
    bodies.read(kept, body)


def test_what_is_read_twice_is_kept() -> None:
    bodies, image = SmallBodies(), chosen()
    bodies.read(image, b"1234")
    assert (bodies.get(image), bodies.kept_bytes) == (b"", 0)
    bodies.read(image, b"1234")
    assert (bodies.get(image), bodies.kept_bytes) == (b"1234", 4)


def test_an_image_that_is_read_anew_has_its_bytes_read_anew() -> None:
    bodies, before, after = SmallBodies(), chosen(), chosen()
    assert before == after
    keep(bodies, before, b"1234")
    assert bodies.get(after) == b""
    bodies.read(after, b"1234")
    assert (bodies.get(before), bodies.get(after), bodies.kept_bytes) == (b"", b"", 0)


def test_what_was_not_read_for_longest_gives_way_to_what_has_no_room() -> None:
    bodies, images = SmallBodies(total_bytes=10), [chosen(str(number)) for number in range(3)]
    for image in images:
        keep(bodies, image, b"1234")
    assert [bodies.get(image) for image in images] == [b"", b"1234", b"1234"]
    assert bodies.kept_bytes == 8


def test_what_is_only_noted_is_bounded_too() -> None:
    bodies, first = SmallBodies(max_entries=2), chosen("first")
    keep(bodies, first, b"1234")
    for number in range(2):
        bodies.read(chosen(str(number)), b"1234")
    assert (bodies.get(first), bodies.kept_bytes) == (b"", 0)


@pytest.mark.parametrize(("size", "kept"), [(SMALL_BYTES, SMALL_BYTES), (SMALL_BYTES + 1, 0)])
def test_a_larger_body_is_never_kept(size: int, kept: int) -> None:
    bodies = SmallBodies()
    keep(bodies, chosen(), bytes(size))
    assert bodies.kept_bytes == kept

"""What of an image is sent, and what it is called."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from chitram.delivery.domain.filename import named_as
from chitram.delivery.representations import optimised, original, thumbnail
from chitram.images.public import RenditionKind, RenditionView
from tests.support.caches import a_view

MADE = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


@pytest.mark.parametrize(
    ("filename", "media_type", "expected"),
    [
        ("photo.png", "image/jpeg", "photo.jpg"),
        ("photo.JPEG", "image/webp", "photo.webp"),
        ("photo.JPEG", "image/jpeg", "photo.JPEG"),
        ("photo.jfif", "image/jpeg", "photo.jfif"),
        ("photo", "image/webp", "photo.webp"),
        ("report v1.2", "image/png", "report v1.2.png"),
        ("photo.jpg.gz", "image/webp", "photo.jpg.gz.webp"),
        ("png", "image/png", "png.png"),
        (".png", "image/jpeg", ".png.jpg"),
        ("", "image/jpeg", ".jpg"),
        ("చిత్రం.png", "image/webp", "చిత్రం.webp"),
    ],
)
def test_a_rendition_is_named_after_the_image_and_what_it_is(
    filename: str, media_type: str, expected: str
) -> None:
    assert named_as(filename, media_type) == expected


@pytest.mark.parametrize("filename", ["a" * 255, "\u0c1a" * 85, "a" * 251 + ".png"])
def test_a_long_name_keeps_its_ending(filename: str) -> None:
    named = named_as(filename, "image/webp")
    assert named.endswith(".webp")
    assert len(named.encode()) <= 255


def rendition(kind: RenditionKind, made_at: datetime) -> RenditionView:
    checksum = hashlib.sha256(kind.encode()).hexdigest()
    return RenditionView(kind.value, 3, "image/webp", 150, 84, 4210, checksum, made_at)


def test_nobody_is_told_that_somebody_had_the_same_picture_before() -> None:
    for life, expected in ((timedelta(days=-9), MADE), (timedelta(days=9), MADE + timedelta(days=9))):
        made = rendition(RenditionKind.SMALL, MADE + life)
        view = msgspec.structs.replace(a_view(), created_at=MADE, renditions=(made,))
        assert thumbnail(view, RenditionKind.SMALL).last_modified == expected


def test_renditions_lie_beside_their_blob_under_their_recipe() -> None:
    view = msgspec.structs.replace(a_view(), renditions=(rendition(RenditionKind.LARGE, MADE),))
    large, file = thumbnail(view, RenditionKind.LARGE), original(view)
    assert large.key == f"renditions/{str(view.blob_id)[-2:]}/{view.blob_id}/large-3"
    assert (large.blob_id, large.shard) == (file.blob_id, file.shard) == (view.blob_id, view.shard)


def test_the_optimised_image_is_chosen_when_all_of_them_are_known() -> None:
    kinds = (RenditionKind.OPTIMISED, RenditionKind.OPTIMISED_WEBP)
    for made in ((), kinds[:1], kinds[1:], kinds):
        view = msgspec.structs.replace(
            a_view(), optimised=True, renditions=tuple(rendition(kind, MADE) for kind in made)
        )
        tags = {kind: hashlib.sha256(kind.encode()).hexdigest() for kind in made}
        plain = tags.get(kinds[0], view.checksum)
        assert optimised(view, takes_webp=False).checksum == plain
        assert optimised(view, takes_webp=True).checksum == tags.get(kinds[1], plain)

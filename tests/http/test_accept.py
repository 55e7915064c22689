from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chitram.delivery.domain.accept import names_media_type

WEBP = "image/webp"


@pytest.mark.parametrize(
    "accept",
    [
        "image/webp",
        "IMAGE/WebP",
        " image/webp ",
        "text/html,application/xhtml+xml,image/avif,image/webp,*/*;q=0.8",
        "image/webp;q=1",
        "image/webp;q=1.000",
        "image/webp ; Q=0.001",
        "image/webp;",
        "image/webp;;q=0.5",
        ",,image/webp,",
        "image/webp;q=0, image/webp;q=0.1",
        'text/plain;a="b, c\\"d", image/webp',
    ],
)
def test_a_type_that_is_named_is_taken(accept: str) -> None:
    assert names_media_type(accept, WEBP)


@pytest.mark.parametrize(
    "accept",
    [
        None,
        "",
        "*/*",
        "image/*",
        "*/*;q=1, image/*;q=1",
        "image/webp;q=0",
        "image/webp;q=0.",
        "image/webp;q=0.000",
        "image/png, image/webp; q=0",
        "image/webp2, ximage/webp, image/web",
        "image /webp",
        "image/webp q=1",
    ],
)
def test_a_type_that_is_not_named_or_weighs_nothing_is_not_taken(accept: str | None) -> None:
    assert not names_media_type(accept, WEBP)


@pytest.mark.parametrize(
    "accept",
    [
        *(
            f"image/webp;q={weight}"
            for weight in ("", "2", "1.001", "0.0001", "-1", "+1", "1e0", "nan", "\u0661")
        ),
        "image/webp;q",
        "image/webp;q=1;q=1",
        "image/webp;level=1",
        "image/webp;q =1",
        'image/webp;q="1"',
    ],
)
def test_a_weight_that_is_none_and_a_narrower_type_name_nothing(accept: str) -> None:
    assert not names_media_type(accept, WEBP)


@pytest.mark.parametrize(
    "accept", ['text/x;a="b,image/webp,c"', 'text/x;a="b,image/webp', 'a",image/webp', 'a;b="\\",image/webp']
)
def test_what_stands_in_quotes_is_no_type(accept: str) -> None:
    assert not names_media_type(accept, WEBP)


def test_a_header_beyond_all_measure_names_nothing() -> None:
    assert names_media_type("image/webp" + "," * 4086, WEBP)
    assert not names_media_type("image/webp" + "," * 4087, WEBP)


@given(st.text(alphabet='image/webp;q=01. ,"\\*x\t\n', max_size=200))
def test_every_text_is_judged(accept: str) -> None:
    taken = names_media_type(accept, WEBP)
    assert not (taken and "image/webp" not in accept)

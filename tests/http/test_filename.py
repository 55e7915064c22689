from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chitram.images.domain.filename import MAX_BYTES, sanitise_filename


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("photo.jpg", "photo.jpg"),
        ("My photo (1).jpeg", "My photo (1).jpeg"),
        ("చిత్రం.jpg", "చిత్రం.jpg"),
        ("क्‍ष 👩‍🚀.png", "क्‍ष 👩‍🚀.png"),
        ("../../etc/passwd", "passwd"),
        ("..\\..\\windows\\win.ini", "win.ini"),
        ("C:\\Users\\me/photo.jpg", "photo.jpg"),
        ("/", "image.png"),
        ("photo.jpg/", "image.png"),
        ("..", "image.png"),
        (". . .", "image.png"),
        ("", "image.png"),
        (None, "image.png"),
        ("\x00\x1f\x7f\x85", "image.png"),
        (".htaccess", "htaccess"),
        ("  photo.jpg. ", "photo.jpg"),
        ("a\"b;c%d'e.jpg", "a\"b;c%d'e.jpg"),
        ("a\r\nSet-Cookie: x=y.jpg", "aSet-Cookie: x=y.jpg"),
        ("photo\u202egpj.exe", "photogpj.exe"),
        ("a\u2028b\u2029c\ufeff.jpg", "abc.jpg"),
        ("a\ud800b.jpg", "ab.jpg"),
        ("cafe\u0301.jpg", "café.jpg"),
        ("e\u200e\u0301.jpg", "é.jpg"),
    ],
)
def test_a_name_is_made_safe(raw: str | None, name: str) -> None:
    assert sanitise_filename(raw, "png") == name


def test_a_long_name_keeps_its_ending() -> None:
    assert sanitise_filename("a" * 600 + ".jpeg", "jpg") == "a" * 250 + ".jpeg"


def test_the_bytes_of_an_ending_count() -> None:
    assert sanitise_filename("a" * 600 + ".ఫోటో", "jpg") == "a" * (254 - 12) + ".ఫోటో"


def test_a_long_ending_is_no_ending() -> None:
    assert sanitise_filename("a." + "b" * 600, "jpg") == "a." + "b" * 253


def test_a_long_name_is_cut_between_characters() -> None:
    name = sanitise_filename("é" * 200 + ".jpg", "jpg")
    assert name == "é" * 125 + ".jpg"


@pytest.mark.parametrize("character", ["త్రం", "👩‍🚀", "👍🏽"])
def test_a_long_name_is_not_cut_within_what_is_read_as_one_character(character: str) -> None:
    name = sanitise_filename(character * 100, "jpg")
    assert name == character * (len(name) // len(character))
    assert MAX_BYTES - len(character.encode()) < len(name.encode()) <= MAX_BYTES


def test_a_name_of_nothing_but_marks_is_still_cut() -> None:
    assert len(sanitise_filename("\u0301" * 100_000, "jpg").encode()) == MAX_BYTES - 1


def test_a_name_that_is_cut_at_a_space_does_not_end_in_it() -> None:
    assert sanitise_filename("a" * 254 + " b", "jpg") == "a" * 254


def test_marks_in_the_wrong_order_take_no_time_to_put_right() -> None:
    started = time.process_time()
    sanitise_filename("a" + "\u0301\u0316" * 50_000, "jpg")
    assert time.process_time() - started < 1


@given(
    st.one_of(
        st.none(),
        st.text(st.characters(), max_size=400),
        st.text(st.characters(categories=["Mn", "Cf", "Cc", "Cs", "Zs", "Po"]), max_size=400),
        st.text(st.sampled_from("./\\ a\u0301\u200d\u202e\r\n"), max_size=40),
    )
)
def test_any_text_becomes_a_short_safe_name(raw: str | None) -> None:
    name = sanitise_filename(raw, "jpg")
    assert 1 <= len(name.encode()) <= MAX_BYTES
    assert not {unicodedata.category(character) for character in name} & {"Cc", "Cs", "Zl", "Zp"}
    assert not set(name) & set("/\\\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
    assert name == name.strip().strip(".")
    assert unicodedata.is_normalized("NFC", name)
    assert sanitise_filename(name, "png") == name

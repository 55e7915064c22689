from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chitram.delivery.domain.content_disposition import content_disposition
from chitram.images.domain.filename import sanitise_filename
from chitram.platform.http.disposition import filename_from_disposition, parse_parameters

TEXT = st.text(st.characters(), max_size=300)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("photo.jpg", 'inline; filename="photo.jpg"'),
        ("my photo (1).jpg", 'inline; filename="my photo (1).jpg"'),
        ("naïve.jpg", "inline; filename=\"na_ve.jpg\"; filename*=UTF-8''na%C3%AFve.jpg"),
        ('a"b\\c.jpg', "inline; filename=\"a_b_c.jpg\"; filename*=UTF-8''a%22b%5Cc.jpg"),
        ("100%.jpg", "inline; filename=\"100_.jpg\"; filename*=UTF-8''100%25.jpg"),
        ("a\r\nb", "inline; filename=\"a__b\"; filename*=UTF-8''a%0D%0Ab"),
        ("", "inline"),
    ],
)
def test_a_name_is_written_so_that_every_client_reads_it(name: str, value: str) -> None:
    assert content_disposition("inline", name) == value


@given(TEXT)
def test_no_name_can_break_out_of_its_header(name: str) -> None:
    value = content_disposition("attachment", name)
    assert re.fullmatch(r'attachment(; filename="[^"\\%]*"(; filename\*=UTF-8\'\'[^"\\;]*)?)?', value)
    assert re.fullmatch(r"[ -~]*", value)
    assert len(value) < 1100


def test_a_header_is_short_for_the_longest_name() -> None:
    assert len(content_disposition("inline", "é" * 100_000)) < 1100


@given(TEXT)
def test_a_sanitised_name_comes_back_from_its_header(raw: str) -> None:
    name = sanitise_filename(raw, "jpg")
    assert filename_from_disposition(content_disposition("inline", name)) == name


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("attachment; filename=photo.jpg", "photo.jpg"),
        ('inline; filename="photo.jpg"', "photo.jpg"),
        ('INLINE ;FILENAME = "photo.jpg" ; x', "photo.jpg"),
        ('filename="photo.jpg"', "photo.jpg"),
        ("attachment; filename=my photo.jpg", "my photo.jpg"),
        ('attachment; filename="a;b=c.jpg"', "a;b=c.jpg"),
        (r'attachment; filename="a\"b\\c.jpg"', r"a\"b\c.jpg".replace(r"\"", '"')),
        (r'attachment; filename="C:\photos\me.jpg"', r"C:\photos\me.jpg"),
        ('attachment; filename=""', ""),
        ("attachment;; filename=a.jpg;", "a.jpg"),
        ("attachment; filename=a.jpg; filename=b.jpg", "a.jpg"),
        ("attachment; filename=a.jpg; filename*=UTF-8''%C3%A4.jpg", "ä.jpg"),
        ("attachment; filename*=utf-8'en'%C3%A4.jpg; filename=a.jpg", "ä.jpg"),
        ("attachment; filename*=ISO-8859-1''%E4.jpg", "ä.jpg"),
        ("attachment; filename=a.jpg; filename*=UTF-8''%E4.jpg", "a.jpg"),
        ("attachment; filename=a.jpg; filename*=KOI8-R''%E4.jpg", "a.jpg"),
        ("attachment; filename=a.jpg; filename*=nonsense", "a.jpg"),
        ("attachment; filename=" + "ä.jpg".encode().decode("latin-1"), "ä.jpg"),
        ("attachment; filename=" + "ä.jpg".encode("latin-1").decode("latin-1"), "ä.jpg"),
        ("attachment; filename=చి.jpg", "చి.jpg"),
        ("attachment", None),
        ("attachment; name=file", None),
        ("", None),
        ("; ; ;", None),
        ('attachment; filename="a.jpg' + "x" * 9000, None),
    ],
)
def test_a_name_is_read_as_clients_write_it(value: str, name: str | None) -> None:
    assert filename_from_disposition(value) == name


@given(st.one_of(TEXT, st.text("filename*=;\"'\\%C3 \tU-", max_size=60)))
def test_no_header_is_too_odd_to_read(value: str) -> None:
    filename_from_disposition(value)
    filename_from_disposition(f"inline; {value}")


@pytest.mark.parametrize("piece", ["x", " ", '"', "\\", 'a="', "; a", '="\\"', "a ", "; "])
def test_the_time_to_read_parameters_grows_with_their_length_alone(piece: str) -> None:
    started = time.process_time()
    parse_parameters("a=" + piece * 100_000)
    parse_parameters('a="' + piece * 100_000)
    parse_parameters(piece * 100_000)
    assert time.process_time() - started < 2

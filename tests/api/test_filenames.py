"""Any file name works on the way in and out, or is refused clearly; none reaches a header raw."""

from __future__ import annotations

import pytest

from chitram.platform.http.disposition import filename_from_disposition
from tests.api.test_refusals import FORM, form, part
from tests.support.api import UPLOAD, Api
from tests.support.photos import jpeg


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\me\\photo.jpg", "photo.jpg"),
        ('say "cheese".jpg', 'say "cheese".jpg'),
        ("naïve café.jpg", "naïve café.jpg"),
        ("🦚🌸.jpg", "🦚🌸.jpg"),
        ("చిత్రం.jpg", "చిత్రం.jpg"),
        ("a" * 600 + ".jpg", "a" * 251 + ".jpg"),
        ("", "image.jpg"),
        ("   ", "image.jpg"),
        ("..", "image.jpg"),
        ("semi;colon, comma=.jpg", "semi;colon, comma=.jpg"),
        ("percent%41.jpg", "percent%41.jpg"),
        ("\u202egpj.exe", "gpj.exe"),
    ],
)
async def test_a_name_comes_back_as_it_was_kept(api: Api, given: str, kept: str) -> None:
    answer = await api.client.post("/api/v1/images", params={"filename": given}, content=jpeg())
    assert answer.status_code == 201, answer.text
    assert answer.json()["filename"] == kept
    file = await api.client.get(answer.json()["url"])
    assert file.status_code == 200
    disposition = file.headers["content-disposition"]
    assert disposition.isascii()
    assert disposition.startswith("inline; ")
    assert filename_from_disposition(disposition) == kept


@pytest.mark.parametrize(
    "given", ["a\r\nX-Injected: yes.jpg", "a\nb.jpg", "nul\0.jpg", "esc\x1b[31m.jpg"], ids=ascii
)
async def test_control_characters_never_reach_a_header(api: Api, given: str) -> None:
    answer = await api.client.post("/api/v1/images", params={"filename": given}, content=jpeg())
    assert answer.status_code == 201
    file = await api.client.get(answer.json()["url"])
    assert file.status_code == 200
    assert "x-injected" not in file.headers
    assert not any(ord(character) < 32 for character in file.headers["content-disposition"])


@pytest.mark.parametrize(
    ("disposition", "kept"),
    [
        (b'filename="../../x.jpg"', "x.jpg"),
        ('filename="చిత్రం.jpg"'.encode(), "చిత్రం.jpg"),
        (b'filename="a%22b.jpg"', 'a"b.jpg'),
        (b'filename="a%0D%0AX-Injected: yes.jpg"', "aX-Injected yes.jpg"),
        (b'filename=""', "image.jpg"),
    ],
)
async def test_names_in_forms_are_cleaned_too(api: Api, disposition: bytes, kept: str) -> None:
    header = 'Content-Disposition: form-data; name="file"; ' + disposition.decode()
    answer = await api.client.post(UPLOAD, content=form(part(header, jpeg())), headers=FORM)
    assert answer.status_code == 201, answer.text
    filename = answer.json()["filename"]
    assert "\r" not in filename
    assert "\n" not in filename
    assert filename == kept or "X-Injected" in kept
    file = await api.client.get(answer.json()["url"])
    assert "x-injected" not in file.headers


async def test_a_name_that_is_no_text_is_refused(api: Api) -> None:
    body = form(part("HEADER", jpeg())).replace(
        b"HEADER", b'Content-Disposition: form-data; name="file"; filename="\xff\xfe.jpg"'
    )
    answer = await api.client.post(UPLOAD, content=body, headers=FORM)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "INVALID_REQUEST")

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from chitram.kernel.errors import ChitramError, FileTooLarge, InvalidRequest
from chitram.platform.http.body import ClientDisconnected, UploadTimeout
from chitram.platform.http.multipart import Form, read_form
from chitram.platform.spool import IN_MEMORY_BYTES
from tests.http.asgi import Ending, Sender, open_files_in, open_spools, split

BOUNDARY = "----WebKitFormBoundaryAbC123"
TYPE = f"multipart/form-data; boundary={BOUNDARY}"
FILE = b'Content-Disposition: form-data; name="file"; filename="a.jpg"\r\nContent-Type: image/jpeg'


def part(headers: bytes, content: bytes = b"") -> bytes:
    return b"--%b\r\n%b\r\n\r\n%b\r\n" % (BOUNDARY.encode(), headers, content)


def text(name: str, value: bytes = b"value") -> bytes:
    return part(f'Content-Disposition: form-data; name="{name}"'.encode(), value)


END = f"--{BOUNDARY}--\r\n".encode()
# So often what has eight bytes goes to the disk.
LONG = IN_MEMORY_BYTES // 8 + 1


async def read(
    directory: Path,
    *pieces: bytes,
    content_type: str = TYPE,
    content_length: int | None = None,
    then: Ending = "end",
    **changes: Any,
) -> Form:
    rules: dict[str, Any] = {
        "file_fields": {"file": 1, "files": 3},
        "max_file_bytes": 1000,
        "max_fields": 4,
        "seconds": 5,
        "oversize": "raise",
    }
    return await read_form(
        Sender(pieces, then),
        content_type,
        content_length,
        spool_directory=directory,
        **{**rules, **changes},
    )


def content_of(form: Form, index: int = 0) -> bytes:
    spool = form.files[index].spool
    return os.pread(spool.fileno(), spool.size + 1, 0)


@pytest.mark.parametrize("times", [1, LONG])
async def test_a_form_is_fields_in_memory_and_long_files_on_disk(tmp_path: Path, times: int) -> None:
    content = b"\xff\xd8pixels" * times
    body = text("visibility", b"public") + part(FILE, content) + text("expires_in", b"60") + END
    with await read(tmp_path, body, max_file_bytes=len(content)) as form:
        assert form.fields == {"visibility": "public", "expires_in": "60"}
        (file,) = form.files
        assert (file.field, file.filename, file.content_type) == ("file", "a.jpg", "image/jpeg")
        assert content_of(form) == content
        assert file.spool.size == len(content)
        assert open_files_in(tmp_path) == (times == LONG)
        assert open_spools() == (times == 1)
    assert open_files_in(tmp_path) + open_spools() == 0


async def test_content_that_looks_like_a_boundary_is_kept(tmp_path: Path) -> None:
    content = f"\r\n--{BOUNDARY[:-1]}\r\n\r\r\n--".encode()
    with await read(tmp_path, part(FILE, content) + END) as form:
        assert content_of(form) == content


async def test_headers_of_a_file_are_found_by_names_in_lower_case(tmp_path: Path) -> None:
    with await read(tmp_path, part(FILE + b"\r\nREPR-digest: sha-256=:YQ==:", b"x") + END) as form:
        assert form.files[0].headers["repr-digest"] == "sha-256=:YQ==:"


@pytest.mark.parametrize(
    ("disposition", "filename"),
    [
        (b'name="file"; filename=""', None),
        (b'name="file"', None),
        (b"name=file; filename=a.jpg", "a.jpg"),
        ('name="file"; filename="చిత్రం.jpg"'.encode(), "చిత్రం.jpg"),
        (b'name="file"; filename="a\\"b.jpg"', 'a"b.jpg'),
        (b'name="file"; filename="a%22b.jpg"', 'a"b.jpg'),
        (b'name="file"; filename="=?utf-8?B?w6Q=?="; filename*=UTF-8\'\'%C3%A4.jpg', "ä.jpg"),
        (b"name=\"file\"; filename*=UTF-8''%C3%A4.jpg", "ä.jpg"),
        (b'name="file"; filename="a.jpg"; filename*=x\'\'%ff', "a.jpg"),
    ],
)
async def test_the_name_of_a_file_is_read_as_clients_write_it(
    tmp_path: Path, disposition: bytes, filename: str | None
) -> None:
    with await read(tmp_path, part(b"Content-Disposition: form-data; " + disposition, b"x") + END) as form:
        assert form.files[0].filename == filename


@pytest.mark.parametrize("encoding", [b"binary", b"8bit", b"7BIT"])
async def test_transfer_encodings_that_change_nothing_are_accepted(tmp_path: Path, encoding: bytes) -> None:
    with await read(tmp_path, part(FILE + b"\r\nContent-Transfer-Encoding: " + encoding, b"x") + END) as form:
        assert content_of(form) == b"x"


@pytest.mark.parametrize("start", [b"", b"\r\n"])
@pytest.mark.parametrize("end", [b"", b"\r\n", b"\r\nan epilogue, which means nothing"])
async def test_a_form_may_begin_and_end_as_mail_does(tmp_path: Path, start: bytes, end: bytes) -> None:
    body = start + part(FILE, b"x") + END.removesuffix(b"\r\n")
    with await read(tmp_path, body, end) as form:
        assert content_of(form) == b"x"


CD = b"Content-Disposition: form-data; "
REFUSED = {
    "nothing": b"",
    "no part": END,
    "no file": text("visibility") + END,
    "an empty file": part(FILE) + END,
    "a preamble": b"preamble\r\n" + part(FILE, b"x") + END,
    "another boundary": b"--other\r\n" + part(FILE, b"x") + END,
    "no last boundary": part(FILE, b"x"),
    "no end of headers": part(FILE, b"x") + b"--" + BOUNDARY.encode() + b"\r\nContent-Dis",
    "junk after a boundary": b"--" + BOUNDARY.encode() + b"junk\r\n" + END,
    "no disposition": part(b"Content-Type: image/jpeg", b"x") + END,
    "another disposition": part(b'Content-Disposition: attachment; name="file"', b"x") + END,
    "no name in a text field": part(CD, b"x") + part(FILE, b"x") + END,
    "no name": part(CD + b'filename="a.jpg"', b"x") + END,
    "an empty name": part(CD + b'name=""; filename="a.jpg"', b"x") + END,
    "a field twice": part(FILE, b"x") + text("a") + text("a") + END,
    "a file twice": part(FILE, b"x") * 2 + END,
    "too many files": part(CD + b'name="files"; filename="a.jpg"', b"x") * 4 + END,
    "too many fields": b"".join(text(f"f{n}") for n in range(5)) + part(FILE, b"x") + END,
    "a file in an unknown field": part(CD + b'name="other"; filename="a.jpg"', b"x") + part(FILE, b"x") + END,
    "bytes in a text field": part(FILE, b"x") + text("visibility", b"\xff\xd8\xff") + END,
    "a long text field": part(FILE, b"x") + text("visibility", b"x" * 65537) + END,
    "another charset in a text field": part(FILE, b"x")
    + part(CD + b'name="a"\r\nContent-Type: text/plain; charset=iso-8859-1', b"x")
    + END,
    "an unknown charset": part(FILE + b"; charset=klingon", b"x") + END,
    "a charset with a NUL": part(FILE + b"; charset=\x00", b"x") + END,
    "a header twice": part(FILE + b"\r\nContent-Type: image/png", b"x") + END,
    "a header without a colon": part(FILE + b"\r\nnonsense", b"x") + END,
    "a header name with a space": part(FILE + b"\r\nX Y: z", b"x") + END,
    "a line feed in a header": part(CD + b'name="file"; filename="a\n.jpg"', b"x") + END,
    "a carriage return in a header": part(CD + b'name="file"; filename="a\r.jpg"', b"x") + END,
    "a NUL in a header": part(CD + b'name="file"; filename="a\x00.jpg"', b"x") + END,
    "a file name that is not UTF-8": part(CD + b'name="file"; filename="\xe4.jpg"', b"x") + END,
    "a long header": part(FILE + b"\r\nX-A: " + b"a" * 4100, b"x") + END,
    "many headers": part(FILE + b"".join(b"\r\nX-%d: a" % n for n in range(8)), b"x") + END,
    "base64": part(FILE + b"\r\nContent-Transfer-Encoding: base64", b"eA==") + END,
    "a part longer than it says": part(FILE + b"\r\nContent-Length: 1", b"xx") + END,
    "a part shorter than it says": part(FILE + b"\r\nContent-Length: 3", b"xx") + END,
    "a length that is no number": part(FILE + b"\r\nContent-Length: -1", b"xx") + END,
}


@pytest.mark.parametrize("body", REFUSED.values(), ids=REFUSED.keys())
@pytest.mark.parametrize("piece", [1 << 20, 7])
async def test_a_form_is_refused_that_has(tmp_path: Path, body: bytes, piece: int) -> None:
    pieces = [body[start : start + piece] for start in range(0, len(body), piece)]
    with pytest.raises(InvalidRequest) as refusal:
        await read(tmp_path, *pieces)
    assert refusal.value.code == "INVALID_REQUEST"
    assert open_files_in(tmp_path) == 0


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "image/jpeg",
        "multipart/mixed; boundary=x",
        "multipart/form-data",
        "multipart/form-data; boundary=",
        'multipart/form-data; boundary=""',
        "multipart/form-data; boundary=" + "x" * 71,
        'multipart/form-data; boundary="x "',
        "multipart/form-data; boundary=x@y",
        "multipart/form-data; boundary=\x00",
        "multipart/form-data; boundary=é",
    ],
)
async def test_a_body_is_refused_whose_type_is(tmp_path: Path, content_type: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        await read(tmp_path, part(FILE, b"x") + END, content_type=content_type)
    assert refusal.value.details == {"field": "Content-Type"}


@pytest.mark.parametrize("boundary", ["'()+_,-./:=?", '"a b"', "=_Part_1=2"])
async def test_any_boundary_of_the_standard_is_accepted(tmp_path: Path, boundary: str) -> None:
    body = (part(FILE, b"x") + END).replace(BOUNDARY.encode(), boundary.strip('"').encode())
    kind = f"Multipart/Form-Data; charset=utf-8; BOUNDARY={boundary}"
    with await read(tmp_path, body, content_type=kind) as form:
        assert content_of(form) == b"x"


async def test_ten_thousand_parts_are_refused_before_most_of_them_are_read(tmp_path: Path) -> None:
    client = Sender([text(f"f{number}") for number in range(10_000)])
    with pytest.raises(InvalidRequest, match="too many"):
        await read_form(
            client,
            TYPE,
            None,
            file_fields={"file": 1},
            max_file_bytes=1 << 30,
            max_fields=4,
            seconds=5,
            spool_directory=tmp_path,
            oversize="raise",
        )
    assert client.asked < 10


async def test_a_file_that_is_too_large_refuses_the_form_as_soon_as_it_is(tmp_path: Path) -> None:
    head = part(FILE).removesuffix(b"\r\n")
    client = Sender([head, *[b"x" * 600] * 100])
    with pytest.raises(FileTooLarge) as refusal:
        await read_form(
            client,
            TYPE,
            None,
            file_fields={"file": 1},
            max_file_bytes=1000,
            max_fields=4,
            seconds=5,
            spool_directory=tmp_path,
            oversize="raise",
        )
    assert refusal.value.details == {"max_bytes": 1000}
    assert client.asked == 3
    assert open_files_in(tmp_path) == 0


async def test_in_a_batch_a_file_that_is_too_large_is_marked_and_the_others_go_on(tmp_path: Path) -> None:
    files = CD + b'name="files"; filename="a.jpg"'
    body = part(files, b"one") + part(files, b"x" * 2000) + part(files, b"three") + END
    with await read(tmp_path, *split(body, range(0, len(body), 300)), oversize="mark") as form:
        assert [file.too_large for file in form.files] == [False, True, False]
        assert content_of(form, 0) == b"one"
        assert content_of(form, 2) == b"three"
        assert open_spools() == 2
    assert open_spools() == 0


async def test_all_files_of_a_batch_together_take_no_more_memory_than_one(tmp_path: Path) -> None:
    files = CD + b'name="files"; filename="a.jpg"'
    content = bytes(IN_MEMORY_BYTES // 4 + 1)
    body = part(files, content) + part(files, content[1:]) + END
    with await read(tmp_path, body, max_file_bytes=len(content)) as form:
        assert [file.spool.size for file in form.files] == [len(content), len(content) - 1]
        assert (open_files_in(tmp_path), open_spools()) == (1, 1)


async def test_in_a_batch_an_empty_file_is_left_for_the_caller(tmp_path: Path) -> None:
    with await read(
        tmp_path, part(FILE) + part(FILE, b"x").replace(b"file", b"files", 1) + END, oversize="mark"
    ) as form:
        assert [file.spool.size for file in form.files] == [0, 1]


async def test_a_file_of_the_largest_size_is_accepted(tmp_path: Path) -> None:
    with await read(tmp_path, part(FILE, b"x" * 1000) + END) as form:
        assert form.files[0].spool.size == 1000


@pytest.mark.parametrize("oversize", ["raise", "mark"])
async def test_the_whole_body_has_a_limit_of_its_own(tmp_path: Path, oversize: str) -> None:
    limit = 4 * 1000 + 4 * 65536 + 8 * 8192
    with pytest.raises(FileTooLarge) as refusal:
        await read(tmp_path, content_length=limit + 1, oversize=oversize)
    assert refusal.value.details == {"max_bytes": limit}
    epilogue = [b"x" * 10_000] * (limit // 10_000 + 1)
    with pytest.raises(FileTooLarge):
        await read(tmp_path, part(FILE, b"x") + END, *epilogue, oversize=oversize)
    assert open_files_in(tmp_path) == 0


@pytest.mark.parametrize(("then", "error"), [("silence", UploadTimeout), ("disconnect", ClientDisconnected)])
async def test_a_client_that_stops_in_the_middle_leaves_no_file_open(
    tmp_path: Path, then: Ending, error: type[ChitramError]
) -> None:
    with pytest.raises(error):
        await read(tmp_path, part(FILE, b"x"), then=then, seconds=0.05)
    assert open_files_in(tmp_path) == 0


async def test_a_cancelled_form_leaves_no_file_open(tmp_path: Path) -> None:
    content = bytes(IN_MEMORY_BYTES + 1000)
    reading = asyncio.create_task(
        read(tmp_path, part(FILE, content), max_file_bytes=len(content), then="silence")
    )
    async with asyncio.timeout(2):
        while open_files_in(tmp_path) == 0:
            await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert open_files_in(tmp_path) == 0

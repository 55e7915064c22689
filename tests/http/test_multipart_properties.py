"""Forms, however they are cut into chunks and however they are broken."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from hypothesis import given, settings
from hypothesis import strategies as st

from chitram.kernel.errors import ChitramError, FileTooLarge, InvalidRequest
from chitram.platform.http.multipart import read_form
from tests.http.asgi import open_files_in, sender, split

BOUNDARY = b"b0undary"
# Bytes that a parser may stumble over, more often than chance would have them.
CONTENT = st.lists(
    st.one_of(
        st.binary(max_size=20),
        st.sampled_from([b"\r", b"\n", b"\r\n", b"--", b"\r\n--", b"\r\n--b0undar", b"\r\n--b0undarx"]),
    ),
    max_size=8,
).map(b"".join)
# A client chooses a boundary that its files do not hold.
WHOLE_CONTENT = CONTENT.filter(lambda content: b"\r\n--" + BOUNDARY not in b"\r\n" + content)
POINTS = st.lists(st.integers(0, 600), max_size=12)
# As browsers do: only quotes and line ends are escaped, so a literal %22 would not come back.
NAMES = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters='%\\"'), min_size=1, max_size=20
)


@dataclass(frozen=True)
class Sent:
    fields: dict[str, str]
    files: list[tuple[str, bytes]]

    def encoded(self) -> bytes:
        parts = [
            b'Content-Disposition: form-data; name="%b"\r\n\r\n%b'
            % (quote(name, safe="").encode(), value.encode())
            for name, value in self.fields.items()
        ]
        parts += [
            b'Content-Disposition: form-data; name="files"; filename="%b"\r\n'
            b"Content-Type: image/png\r\n\r\n%b" % (name.encode(), content)
            for name, content in self.files
        ]
        return b"".join(b"--%b\r\n%b\r\n" % (BOUNDARY, part) for part in parts) + b"--%b--\r\n" % BOUNDARY


FORMS = st.builds(
    Sent,
    st.dictionaries(st.sampled_from(["visibility", "expires_in", "note"]), st.text(max_size=20)),
    st.lists(st.tuples(NAMES, WHOLE_CONTENT), min_size=1, max_size=3),
)


async def outcome(pieces: list[bytes]) -> Sent | type[ChitramError]:
    with tempfile.TemporaryDirectory() as directory:
        try:
            with await read_form(
                sender(*pieces),
                f"multipart/form-data; boundary={BOUNDARY.decode()}",
                None,
                file_fields={"files": 4},
                max_file_bytes=100_000,
                max_fields=5,
                seconds=30,
                spool_directory=Path(directory),
                oversize="mark",
            ) as form:
                contents = [os.pread(file.spool.fileno(), file.spool.size, 0) for file in form.files]
                names = [file.filename or "" for file in form.files]
                return Sent(form.fields, list(zip(names, contents, strict=True)))
        except (InvalidRequest, FileTooLarge) as refusal:
            return type(refusal)
        finally:
            assert open_files_in(Path(directory)) == 0


@given(FORMS, POINTS)
async def test_a_form_is_the_same_wherever_its_chunks_end(form: Sent, points: list[int]) -> None:
    assert await outcome(split(form.encoded(), points)) == form


@given(FORMS, st.data())
async def test_a_broken_form_is_read_or_refused_alike_wherever_its_chunks_end(
    form: Sent, data: st.DataObject
) -> None:
    body = bytearray(form.encoded())
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(body)))
        end = data.draw(st.integers(start, min(len(body), start + 30)))
        body[start:end] = data.draw(CONTENT)
    whole = await outcome([bytes(body)])
    assert await outcome(split(bytes(body), data.draw(POINTS))) == whole
    assert await outcome([bytes([byte]) for byte in body]) == whole


@settings(max_examples=50)
@given(st.binary(max_size=300), st.text(max_size=60))
async def test_noise_is_refused(body: bytes, content_type: str) -> None:
    assert await outcome([body]) is InvalidRequest
    with tempfile.TemporaryDirectory() as directory:
        try:
            await read_form(
                sender(body),
                f"multipart/form-data; {content_type}",
                None,
                file_fields={"files": 1},
                max_file_bytes=100,
                max_fields=1,
                seconds=30,
                spool_directory=Path(directory),
                oversize="raise",
            )
        except InvalidRequest:
            return
        raise AssertionError

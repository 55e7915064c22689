"""Reading `multipart/form-data` (RFC 7578): fields to memory, files to disk, one pass.

The parser is driven here rather than by the framework, whose own handling answers 500 to a good part
of what is refused below. It runs in its tolerant mode because its strict one depends on where chunks
happen to end: bytes after the last boundary are an error only in a chunk of their own. What strict
mode would refuse is refused here.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol, Self

from litestar.types import Receive
from multipart import (  # type: ignore[import-untyped] # a single module cannot carry py.typed
    MultipartError,
    MultipartSegment,
    ParserLimitReached,
    PushMultipartParser,
)

from chitram.kernel.errors import FileTooLarge, InvalidRequest
from chitram.platform.http.body import chunks
from chitram.platform.http.disposition import decode_extended, parse_parameters
from chitram.platform.spool import IN_MEMORY_BYTES, Spool

_MAX_TEXT_BYTES = 64 * 1024
_MAX_HEADERS = 8
_MAX_HEADER_BYTES = 4096
# What a part may cost beside its content: headers, boundary, line ends.
_PART_OVERHEAD = 2 * _MAX_HEADER_BYTES
# RFC 2046, section 5.1.1.
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
# `file --mime` says binary; browsers and tools say the others. No list of codecs is asked: it would
# remember every name it is asked for.
_TEXT_CHARSETS = frozenset({"utf-8", "utf8", "us-ascii", "ascii"})
_CHARSETS = _TEXT_CHARSETS | {"iso-8859-1", "binary"}
_TRANSFER_ENCODINGS = frozenset({"7bit", "8bit", "binary"})


@dataclass(slots=True, kw_only=True)
class FilePart:
    """One file of a form.

    Attributes:
        filename: as the client gave it; None when it gave none or an empty one.
        content_type: lower-case media type without parameters.
        headers: all headers of the part, names in lower case.
        spool: the content; closed and incomplete when the file is too large.
    """

    field: str
    filename: str | None
    content_type: str | None
    headers: Mapping[str, str]
    spool: Spool
    too_large: bool = False


@dataclass(slots=True)
class Form:
    """A form wholly received; leaving its block gives the disk space back."""

    fields: dict[str, str] = field(default_factory=dict)
    files: list[FilePart] = field(default_factory=list)

    def close(self) -> None:
        for part in self.files:
            part.spool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rules:
    file_fields: Mapping[str, int]
    max_file_bytes: int
    max_fields: int
    spool_directory: Path
    mark_oversize: bool

    @property
    def max_files(self) -> int:
        return sum(self.file_fields.values())

    @property
    def max_body_bytes(self) -> int:
        files = self.max_files * (self.max_file_bytes + _PART_OVERHEAD)
        return files + self.max_fields * (_MAX_TEXT_BYTES + _PART_OVERHEAD)


async def read_form(  # noqa: PLR0913 - what a form may be is told in full
    receive: Receive,
    content_type: str,
    content_length: int | None,
    *,
    file_fields: Mapping[str, int],
    max_file_bytes: int,
    max_fields: int,
    seconds: float,
    spool_directory: Path,
    oversize: Literal["raise", "mark"],
) -> Form:
    """Read a form with at least one file; the caller closes it.

    There are `seconds` for the first `max_file_bytes`, and as long again for each so many more that
    have come: what has only been announced keeps nobody waiting.

    `file_fields` says how many files each field may hold; other fields are text, at most
    `max_fields` of them and 64 KiB each, and whoever does not know them ignores them. A file that is
    empty or larger than `max_file_bytes` refuses the form, or with `oversize="mark"` is left for the
    caller to refuse, by `too_large` or a spool of no size, while the others go on.

    Raises `InvalidRequest`, `FileTooLarge`, `UploadTimeout`, `ClientDisconnected` and
    `StorageUnavailable`; nothing stays open then.
    """
    rules = _Rules(
        file_fields=file_fields,
        max_file_bytes=max_file_bytes,
        max_fields=max_fields,
        spool_directory=spool_directory,
        mark_oversize=oversize == "mark",
    )
    boundary = _boundary_of(content_type)
    _Budget(rules).spend(content_length or 0)
    with contextlib.ExitStack() as on_error:
        reader = _Reader(rules, on_error.enter_context(Form()))
        feed = _Feed(boundary, reader)
        budget = _Budget(rules)
        async for chunk in chunks(receive, deadline_seconds=seconds, extended_by_bytes=max_file_bytes):
            budget.spend(len(chunk))
            await feed.push(chunk)
        feed.finish()
        on_error.pop_all()
    return reader.form


def _boundary_of(content_type: str) -> bytes:
    kind, parameters = parse_parameters(content_type)
    if kind != "multipart/form-data":
        raise InvalidRequest("The body has to be multipart/form-data.", details={"field": "Content-Type"})
    boundary = parameters.get("boundary", "")
    if not _BOUNDARY.fullmatch(boundary):
        raise InvalidRequest("The boundary is missing or malformed.", details={"field": "Content-Type"})
    return boundary.encode()


class _Budget:
    """Counts a body against its limit."""

    def __init__(self, rules: _Rules) -> None:
        self._left = rules.max_body_bytes
        # For one file its own limit is what helps a client.
        self._told = rules.max_file_bytes if rules.max_files == 1 else rules.max_body_bytes

    def spend(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise FileTooLarge(self._told)


class _Feed:
    """Drives the parser, with its errors in our words."""

    def __init__(self, boundary: bytes, reader: _Reader) -> None:
        self._start = b"--" + boundary
        self._head = b""
        self._started = False
        self._reader = reader
        self._parser = PushMultipartParser(
            boundary,
            max_header_size=_MAX_HEADER_BYTES,
            max_header_count=_MAX_HEADERS,
        )

    async def push(self, chunk: bytes) -> None:
        if not self._started:
            chunk = self._head = self._head + chunk
            if len(chunk) < len(self._start) + 2:
                return
            if not chunk.removeprefix(b"\r\n").startswith(self._start):
                raise InvalidRequest("The form does not begin with its boundary.")
            self._started, self._head = True, b""
        try:
            for event in self._parser.parse(chunk):
                await self._reader.take(event)
        except MultipartError as error:
            raise _refusal(error) from error

    def finish(self) -> None:
        try:
            self._parser.close()
        except MultipartError as error:
            raise InvalidRequest("The form ends before its last boundary.") from error
        self._reader.check_complete()


def _refusal(error: MultipartError) -> InvalidRequest:
    if isinstance(error, ParserLimitReached):
        return InvalidRequest("A part of the form has too many or too long headers.")
    return InvalidRequest("The form is malformed.")


class _Part(Protocol):
    async def write(self, data: bytes) -> None: ...

    async def finish(self) -> None: ...


class _Reader:
    """Turns the parser's events into a form."""

    def __init__(self, rules: _Rules, form: Form) -> None:
        self.form = form
        self._rules = rules
        self._part: _Part

    async def take(self, event: MultipartSegment | bytes | None) -> None:
        if isinstance(event, MultipartSegment):
            self._part = self._begin(event)
        elif event:
            await self._part.write(event)
        else:
            await self._part.finish()

    def check_complete(self) -> None:
        if not self.form.files:
            names = sorted(self._rules.file_fields)
            raise InvalidRequest("The form has no file.", details={"fields": names})

    def _begin(self, segment: MultipartSegment) -> _Part:
        headers = _headers_of(segment)
        _check_headers(headers)
        if not segment.name:
            raise InvalidRequest("A part of the form has no name.")
        if segment.name in self._rules.file_fields:
            return self._begin_file(segment, headers)
        return self._begin_text(segment, headers)

    def _begin_file(self, segment: MultipartSegment, headers: Mapping[str, str]) -> _Part:
        name = segment.name
        allowed = self._rules.file_fields[name]
        if sum(part.field == name for part in self.form.files) >= allowed:
            raise InvalidRequest("The field has more files than allowed.", details={"max_files": allowed})
        part = FilePart(
            field=name,
            filename=_filename_of(segment, headers),
            content_type=segment.content_type or None,
            headers=headers,
            spool=Spool(self._rules.spool_directory, in_memory=IN_MEMORY_BYTES // self._rules.max_files),
        )
        self.form.files.append(part)
        return _File(part, self._rules)

    def _begin_text(self, segment: MultipartSegment, headers: Mapping[str, str]) -> _Part:
        if _filename_of(segment, headers) is not None:
            raise InvalidRequest("A file is in a field that takes none.")
        if segment.name in self.form.fields:
            raise InvalidRequest("A field is in the form twice.")
        if len(self.form.fields) >= self._rules.max_fields:
            raise InvalidRequest("The form has too many fields.")
        if _charset_of(headers) not in _TEXT_CHARSETS:
            raise InvalidRequest("A text field is not in UTF-8.")
        self.form.fields[segment.name] = ""
        return _Text(segment.name, self.form)


class _File:
    """A file being received."""

    def __init__(self, part: FilePart, rules: _Rules) -> None:
        self._part = part
        self._rules = rules

    async def write(self, data: bytes) -> None:
        part = self._part
        if part.too_large:
            return
        if part.spool.size + len(data) <= self._rules.max_file_bytes:
            await part.spool.write(data)
        elif self._rules.mark_oversize:
            part.too_large = True
            part.spool.close()
        else:
            raise FileTooLarge(self._rules.max_file_bytes)

    async def finish(self) -> None:
        part = self._part
        if part.too_large:
            return
        if not part.spool.size and not self._rules.mark_oversize:
            raise InvalidRequest("The file is empty.")
        await part.spool.flush()


class _Text:
    """A text field being received."""

    def __init__(self, name: str, form: Form) -> None:
        self._name = name
        self._form = form
        self._data = bytearray()

    async def write(self, data: bytes) -> None:
        self._data += data
        if len(self._data) > _MAX_TEXT_BYTES:
            raise InvalidRequest("A text field is too long.", details={"max_bytes": _MAX_TEXT_BYTES})

    async def finish(self) -> None:
        try:
            self._form.fields[self._name] = self._data.decode()
        except UnicodeDecodeError:
            raise InvalidRequest("A text field is not in UTF-8.") from None


def _headers_of(segment: MultipartSegment) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, value in segment.headerlist:
        if name.lower() in headers:
            raise InvalidRequest("A part of the form has a header twice.")
        if _CONTROL.search(value):
            raise InvalidRequest("A header of the form has a control character.")
        headers[name.lower()] = value
    return headers


def _check_headers(headers: Mapping[str, str]) -> None:
    if _charset_of(headers) not in _CHARSETS:
        raise InvalidRequest("A part of the form has an unknown charset.")
    if headers.get("content-transfer-encoding", "binary").strip().lower() not in _TRANSFER_ENCODINGS:
        raise InvalidRequest("A part of the form has a transfer encoding that is not accepted.")


def _charset_of(headers: Mapping[str, str]) -> str:
    return parse_parameters(headers.get("content-type", ""))[1].get("charset", "utf-8").lower()


def _filename_of(segment: MultipartSegment, headers: Mapping[str, str]) -> str | None:
    """The name of a part's file.

    RFC 7578 forbids `filename*`, but clients that send it (.NET, older urllib3) put an encoded word
    or nothing into `filename` then, so it counts first.
    """
    parameters = parse_parameters(headers["content-disposition"])[1]
    return decode_extended(parameters.get("filename*", "")) or segment.filename or None

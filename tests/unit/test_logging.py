from __future__ import annotations

import asyncio
import io
import json
import logging
import re
import select
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from chitram.platform.http.access_log import AccessLog
from chitram.platform.logging import OUTPUT, LineOutput, configure_logging, request_id
from chitram.platform.settings import Settings
from tests.unit.test_middleware import a_scope

FIELDS: dict[str, Any] = {"request_id": "an-id", "status": 200, "sent": 1234, "seconds": 0.00123}


@pytest.fixture(params=["console", "json"])
def output(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Any]]:
    """A format, and standard output with logging in this format set up."""
    written = io.TextIOWrapper(io.BytesIO(), write_through=True)
    monkeypatch.setattr(sys, "stdout", written)
    root = logging.getLogger()
    before = root.handlers, root.level
    configure_logging(Settings(log_format=request.param))
    yield request.param, written
    structlog.reset_defaults()
    root.handlers, root.level = before


def text_of(written: Any) -> str:
    text: str = written.buffer.getvalue().decode()
    return text


def without_time(line: str) -> str:
    return re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?Z", "TIME", line)


@pytest.mark.parametrize("client", [("192.0.2.77", 1), None])
async def test_an_access_line_looks_as_structlog_would_write_it(
    output: tuple[str, Any], client: tuple[str, int] | None
) -> None:
    log_format, written = output
    token = request_id.set("an-id")
    shown = {"client": "192.0.2.0/24"} if client else {}
    logger = structlog.get_logger("chitram.access")
    logger.info("request", method="GET", path="/50%25", status=200, sent=1234, ms=1.2, **shown)
    request_id.reset(token)
    lines: list[bytes] = []
    AccessLog(log_format, "truncated", lines.append).write(a_scope(path="/50%", client=client), **FIELDS)
    assert without_time(lines[0].decode()) == without_time(text_of(written))


async def test_what_is_unusual_in_a_request_breaks_no_line() -> None:
    for log_format in ("console", "json"):
        lines: list[bytes] = []
        scope = a_scope(method="A\"'%(sent)s", path='/%(x)s "\n', client=('1"\n', 1))
        AccessLog(log_format, "full", lines.append).write(scope, **FIELDS)
        [line] = lines[0].decode().splitlines()
        if log_format == "json":
            assert json.loads(line)["path"] == "/%25%28x%29s%20%22%0A"


@pytest.mark.parametrize("level", ["warning", "error"])
def test_no_access_line_is_written_below_the_level_of_the_log(level: Any) -> None:
    assert AccessLog.from_settings(Settings(log_level=level)) is None
    assert AccessLog.from_settings(Settings(log_level="info"))


async def test_lines_are_written_in_their_order_at_the_end_of_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr(sys, "stdout", written)
    lines = LineOutput()
    lines.write(b"first\n")
    lines.write(b"second\n")
    assert text_of(written) == ""
    await asyncio.sleep(0)
    assert text_of(written) == "first\nsecond\n"


async def test_other_lines_come_after_those_that_were_written_before(
    output: tuple[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, written = output
    # The runner of the tests has put its own there meanwhile.
    monkeypatch.setattr(sys, "stdout", written)
    OUTPUT.write(b"request\n")
    structlog.get_logger("chitram").warning("something else")
    first, second = text_of(written).splitlines()
    assert (first, "something else" in second) == ("request", True)


class Pieces(io.RawIOBase):
    """Remembers what is written to it at once."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, piece: Any) -> int:
        self.pieces.append(bytes(piece))
        return len(piece)


async def test_pieces_are_whole_lines_that_a_pipe_takes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = Pieces()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BufferedWriter(raw)))
    wanted = [b"%0150d\n" % number for number in range(100)]
    lines = LineOutput()
    for line in wanted:
        lines.write(line)
    lines.flush()
    assert b"".join(raw.pieces) == b"".join(wanted)
    assert all(piece.endswith(b"\n") and len(piece) <= select.PIPE_BUF for piece in raw.pieces)
    assert len(raw.pieces) == 4


class Logging:
    """An output during whose writing something else is logged, as by what is collected as garbage."""

    def __init__(self, lines: LineOutput) -> None:
        self.buffer = self
        self.written: list[bytes] = []
        self._lines = lines

    def write(self, piece: bytes) -> None:
        self.written.append(piece)
        self._lines.flush()

    def flush(self) -> None:
        pass


def test_lines_that_come_while_others_are_written_wait_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = LineOutput()
    output = Logging(lines)
    monkeypatch.setattr(sys, "stdout", output)
    # Without an event loop, too.
    writing = threading.Thread(target=lines.write, args=(b"line\n",), daemon=True)
    writing.start()
    writing.join(10)
    assert (writing.is_alive(), output.written) == (False, [b"line\n"])


async def test_an_output_that_takes_nothing_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.TextIOWrapper(io.BytesIO())
    closed.close()
    monkeypatch.setattr(sys, "stdout", closed)
    lines = LineOutput()
    lines.write(b"lost\n")
    lines.flush()

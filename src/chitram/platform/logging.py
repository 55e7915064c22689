"""Structured logs: structlog for our lines and for those of every library."""

from __future__ import annotations

import asyncio
import logging
import select
import sys
from collections import deque
from contextlib import suppress
from contextvars import ContextVar
from typing import TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from chitram.platform.settings import Settings

# These say at info what our own lines say better.
_QUIET = {"saq": logging.ERROR, "asyncio": logging.WARNING, "alembic": logging.WARNING}

# Of the request under way; part of every line that is written meanwhile.
request_id: ContextVar[str] = ContextVar("request_id")


class LineOutput:
    """Standard output, for lines of which there are many.

    What comes in one turn of the event loop is written together at its end, in pieces that a pipe
    takes whole, so that lines of several processes do not mix.
    """

    def __init__(self) -> None:
        # Without a lock: what is collected as garbage meanwhile may log, in this very thread.
        self._lines: deque[bytes] = deque()
        self._is_awaited = False

    def write(self, line: bytes) -> None:
        """Write a line soon; it brings its own end."""
        self._lines.append(line)
        if self._is_awaited:
            return
        self._is_awaited = True
        try:
            asyncio.get_running_loop().call_soon(self.flush)
        except RuntimeError:
            # A request that is collected as garbage, in whatever thread, has no turn to wait for.
            self.flush()

    def flush(self) -> None:
        """Write what there is."""
        # First, so that whoever still finds it set has left a line that is taken below.
        self._is_awaited = False
        lines: list[bytes] = []
        with suppress(IndexError):
            while True:
                lines.append(self._lines.popleft())
        if lines:
            _write(lines)


def _write(lines: list[bytes]) -> None:
    # As with every other line: a log that cannot be written stops nobody.
    with suppress(OSError, ValueError):
        piece = b""
        for line in lines:
            if len(piece) + len(line) > select.PIPE_BUF:
                _write_piece(piece)
                piece = b""
            piece += line
        _write_piece(piece)


def _write_piece(piece: bytes) -> None:
    sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()


OUTPUT = LineOutput()


class _InOrder(logging.StreamHandler[TextIO]):
    """Writes after the lines that came before through `OUTPUT`."""

    def emit(self, record: logging.LogRecord) -> None:
        OUTPUT.flush()
        super().emit(record)


def configure_logging(settings: Settings) -> None:
    """Send every log line of this process to standard output, as console text or JSON."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        _add_request_id,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = _InOrder(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *line_renderers(settings.log_format),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.log_level.upper())
    for name, level in _QUIET.items():
        logging.getLogger(name).setLevel(max(level, root.level))


def _add_request_id(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    if known := request_id.get(None):
        event.setdefault("request_id", known)
    return event


def line_renderers(log_format: str) -> list[Processor]:
    """What makes a line of an event in this format, the last of them its text."""
    if log_format == "json":
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    # The default shows every frame's variables, and so tokens and bodies.
    plain = structlog.dev.plain_traceback
    return [structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty(), exception_formatter=plain)]

"""`just bench`: measure, print a table, write JSON and a chart, and say whether anything falls short."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import signal
import sys
import time
from collections.abc import Coroutine, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from benchmarks import lines as line_modules
from benchmarks.load.wrk import LoadError, require_wrk
from benchmarks.machine import QUIET_LOAD, ROOT, this_machine
from benchmarks.measuring import FULL, QUICK, measure
from benchmarks.model import Line
from benchmarks.outcome import Outcome
from benchmarks.report import Report, write
from benchmarks.table import row_of, table

_PUBLISHED = ROOT / "docs" / "benchmarks"
_TRIED_OUT = ROOT / ".bench"
_UNABLE = 2
_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit status: 0, 1 when a line falls short, 2 when nothing can be measured."""
    options = _options(arguments)
    try:
        require_wrk()
        if options.verb == "growth":
            return _growth(options.out, options.rows)
        return _run(_bench(options))
    except LoadError as error:
        print(error, file=sys.stderr)
        return _UNABLE
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("stopped", file=sys.stderr)
        return _INTERRUPTED


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="just bench", description=__doc__)
    parser.add_argument(
        "verb",
        nargs="?",
        default="full",
        choices=["full", "quick", "growth"],
        help="full: all lines, under 15 minutes; quick: most, under 2; growth: the curves",
    )
    parser.add_argument("--only", nargs="+", metavar="KEY", default=[], help="these lines alone")
    parser.add_argument("--rounds", type=int, metavar="N", help="of both sides of each line")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where the files go")
    parser.add_argument("--rows", type=int, metavar="N", help="of growth: most images (5 million)")
    return parser.parse_args(arguments)


def _growth(out: Path | None, rows: int | None) -> int:
    growth = importlib.import_module("benchmarks.growth")
    folder = out or (_PUBLISHED / "growth" if rows is None else _TRIED_OUT / "growth")
    status: int = _run(growth.run(folder, rows or growth.ROWS[-1]))
    return status


def _run(work: Coroutine[Any, Any, int]) -> int:
    """Run it; Ctrl-C and SIGTERM unwind it, so that whatever it has started is stopped."""

    async def stoppable() -> int:
        task = asyncio.ensure_future(work)
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        return await task

    return asyncio.run(stoppable())


async def _bench(options: argparse.Namespace) -> int:
    quick = options.verb == "quick"
    plan = QUICK if quick else FULL
    if options.rounds:
        plan = msgspec.structs.replace(plan, rounds=options.rounds)
    chosen = chosen_lines(all_lines(), options.only, quick=quick)
    machine, began, clock = this_machine(), datetime.now(UTC), time.monotonic()
    if machine.is_busy:
        print(f"Others are at work here: load average {machine.load_average}, above {QUIET_LOAD}.")

    def tell(outcome: Outcome) -> None:
        print(f"{time.monotonic() - clock:4.0f} s  {row_of(outcome)}", flush=True)

    outcomes = await measure(chosen, plan, tell)
    seconds = round(time.monotonic() - clock, 1)
    report = Report(mode=options.verb, began=began, seconds=seconds, machine=machine, lines=outcomes)
    print(f"\n{table(outcomes)}\n\n{report.subtitle}; {seconds:.0f} s.")
    whole = not (quick or options.only)
    folder = options.out or (_PUBLISHED if whole else _TRIED_OUT)
    for path in write(report, folder, "latest"):
        print(f"wrote {path}")
    return report.status


def all_lines() -> list[Line]:
    """The lines of all topics, in their order."""
    found: list[Line] = []
    for topic in line_modules.TOPICS:
        found += importlib.import_module(f"{line_modules.__name__}.{topic}").LINES
    return found


def chosen_lines(lines: Sequence[Line], only: Sequence[str], *, quick: bool) -> list[Line]:
    """Those to measure. Raises `LoadError` for a key that no line has."""
    known = {line.key: line for line in lines}
    if unknown := [key for key in only if key not in known]:
        raise LoadError(f"There is no line {', '.join(unknown)}. There are: {', '.join(known)}.")
    if only:
        return [known[key] for key in only]
    return [line for line in lines if line.quick or not quick]


if __name__ == "__main__":
    raise SystemExit(main())

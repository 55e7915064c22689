"""Files that a run leaves: JSON, a chart, and the table in the page about benchmarks."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import msgspec

from benchmarks.chart import chart
from benchmarks.machine import Machine
from benchmarks.outcome import Outcome
from benchmarks.table import table

_BEGIN, _END = "<!-- newest table -->", "<!-- end of it -->"


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A whole run.

    Attributes:
        mode: `full` or `quick`.
        began: in UTC.
        seconds: that it took.
    """

    mode: str
    began: datetime
    seconds: float
    machine: Machine
    lines: list[Outcome]

    @property
    def status(self) -> int:
        """Exit status: 0 when no line falls short."""
        return int(any(line.shortfall for line in self.lines))

    @property
    def subtitle(self) -> str:
        machine = self.machine
        load = f", load average {machine.load_average:g} at the beginning" if machine.is_busy else ""
        commit = f", {machine.commit}" if machine.commit else ""
        return f"{self.began:%Y-%m-%d}, {machine.cores} cores, Python {machine.python}{commit}{load}"


def write(report: Report, folder: Path, name: str) -> list[Path]:
    """Write NAME.json and NAME.svg; and the table between two marks of README.md, if that has them."""
    folder.mkdir(parents=True, exist_ok=True)
    encoded = msgspec.json.format(msgspec.json.encode(report), indent=1)
    written = [folder / f"{name}.json", folder / f"{name}.svg"]
    written[0].write_bytes(encoded + b"\n")
    written[1].write_text(chart(report.lines, report.subtitle))
    page = folder / "README.md"
    if page.exists() and (replaced := _with_table(page.read_text(), report.lines, report.subtitle)):
        page.write_text(replaced)
        written.append(page)
    return written


def _with_table(text: str, lines: Sequence[Outcome], subtitle: str) -> str | None:
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not (begin and end):
        return None
    return f"{before}{begin}\n{subtitle}.\n\n{table(lines)}\n{end}{after}"

from __future__ import annotations

import json
import socket
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from benchmarks.__main__ import all_lines
from benchmarks.machine import Machine, this_machine
from benchmarks.model import Limit, Measured, Ratio, Run, Sample
from benchmarks.outcome import LimitOutcome, Outcome, RatioOutcome, Spread, Unmeasured, compared, limited
from benchmarks.report import Report, write
from benchmarks.table import table


def no_sides() -> AbstractAsyncContextManager[dict[str, Run]]:
    raise AssertionError("nothing is started here")


async def no_measure() -> Measured:
    raise AssertionError("nothing is measured here")


def of_rates(
    ours: Sequence[float], peer: Sequence[float], least: float = 0.5, errors: int = 0
) -> RatioOutcome:
    line = Ratio(key="a-line", title="A line", against="a peer", least=least, sides=no_sides)
    return compared(
        line,
        [Sample(rate=rate, errors=errors, cpu_ms=2, peak_mib=10) for rate in ours],
        [Sample(rate=rate, cpu_ms=0.5) for rate in peer],
    )


def of_limit(value: float, *, most: float | None = None, least: float | None = None) -> LimitOutcome:
    line = Limit(key="a-limit", title="A limit", unit="MB", measure=no_measure, most=most, least=least)
    return limited(line, Measured(value=value, others={"before": 1.5}))


def report(*lines: Outcome) -> Report:
    machine = Machine(
        cores=2,
        processor="a processor",
        memory_gib=4.0,
        kernel="6.1",
        python="3.11.2",
        versions={"litestar": "2.25"},
        commit="0123456789ab",
        load_average=0.1,
    )
    began = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
    return Report(mode="full", began=began, seconds=1.5, machine=machine, lines=list(lines))


def test_the_ratio_is_the_median_of_the_ratios_of_each_round() -> None:
    outcome = of_rates([100, 50, 90], [100, 100, 300])
    assert outcome.ratio == Spread(0.5, 0.3, 1.0)
    assert outcome.ours.rate == Spread(90, 50, 100)
    assert outcome.peer.rate == Spread(100, 100, 300)


def test_a_side_that_did_nothing_is_infinitely_slow_and_no_crash() -> None:
    assert of_rates([1, 1, 1], [0, 0, 0]).shortfall == "too slow"


def test_a_side_shows_medians_its_greatest_memory_and_all_its_errors() -> None:
    line = Ratio(key="a", title="A", against="b", least=1, sides=no_sides)
    ours = [
        Sample(rate=1, cpu_ms=3, peak_mib=10, errors=1, refusals=2),
        Sample(rate=1, cpu_ms=1, peak_mib=30, errors=2),
        Sample(rate=1, cpu_ms=2, peak_mib=20),
    ]
    side = compared(line, ours, ours).ours
    assert (side.cpu_ms, side.peak_mib, side.errors, side.refusals, side.p95_ms) == (2, 30, 3, 2, None)


@pytest.mark.parametrize(("ours", "falls_short"), [(50, False), (49, True)])
def test_a_line_falls_short_below_its_least_ratio(ours: float, *, falls_short: bool) -> None:
    assert bool(of_rates([ours], [100]).shortfall) is falls_short


def test_a_line_with_wrong_answers_falls_short_however_fast_they_came() -> None:
    assert of_rates([500] * 3, [100] * 3, errors=2).shortfall == "6 answers were wrong"


@pytest.mark.parametrize(
    ("outcome", "falls_short"),
    [
        (of_limit(64, most=64), False),
        (of_limit(64.1, most=64), True),
        (of_limit(2, least=2), False),
        (of_limit(1.9, least=2), True),
        (of_limit(-3, most=64), False),
        (of_limit(5, least=2, most=4), True),
    ],
)
def test_a_limit_holds_to_the_number(outcome: LimitOutcome, *, falls_short: bool) -> None:
    assert bool(outcome.shortfall) is falls_short
    assert (outcome.reached < 1) is falls_short


def test_the_exit_status_tells_of_any_line_that_falls_short() -> None:
    good = of_rates([100], [100])
    assert report(good, of_limit(1, most=2)).status == 0
    assert report(good, of_rates([1], [100])).status == 1
    assert report(good, Unmeasured(key="b", title="B", reason="broke")).status == 1


def test_the_report_is_written_as_json_and_as_a_well_formed_chart(tmp_path: Path) -> None:
    lines: list[Outcome] = [
        of_rates([100, 90, 80], [100, 100, 100]),
        of_limit(70, most=64),
        Unmeasured(key="b", title="B <& C", reason="broke"),
    ]
    written = write(report(*lines), tmp_path / "new", "latest")
    assert [path.name for path in written] == ["latest.json", "latest.svg"]
    told = json.loads(written[0].read_bytes())
    assert [line["kind"] for line in told["lines"]] == ["ratio", "limit", "unmeasured"]
    assert told["lines"][0]["ratio"] == {"median": 0.9, "lowest": 0.8, "highest": 1.0}
    assert [sample["rate"] for sample in told["lines"][0]["ours"]["rounds"]] == [100, 90, 80]
    assert told["machine"]["cores"] == 2
    svg = ET.parse(written[1]).getroot()  # noqa: S314 - our own
    texts = [element.text for element in svg.iter("{http://www.w3.org/2000/svg}text")]
    assert {"A line", "0.90 of 0.50", "A limit", "B <& C"} <= set(texts)
    bars = [each.get("class") for each in svg.iter("{http://www.w3.org/2000/svg}rect")]
    assert bars == ["page", "good", "short", "short"]


@pytest.mark.parametrize("line", all_lines(), ids=lambda line: line.key)
def test_the_title_of_each_line_has_room_beside_its_bar(line: Ratio | Limit) -> None:
    """The chart leaves 318 of its units for text that is 13 high, of which a letter takes about half."""
    assert len(line.title) <= 318 / (13 * 0.56)


def test_the_page_gets_the_table_between_its_marks_and_keeps_the_rest(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text("before\n<!-- newest table -->\nold\n<!-- end of it -->\nafter\n")
    assert page in write(report(of_rates([100], [100])), tmp_path, "latest")
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "`a-line`" in text
    assert "old" not in text


def test_the_table_shows_both_sides_and_what_is_wrong() -> None:
    shown = table([of_rates([1234.4, 1000, 2000], [3000] * 3, errors=1), of_limit(70, most=64)])
    assert "| 0.41 (0.33-0.67) " in shown
    assert "| 1,234 (1,000-2,000) " in shown
    assert "| 2.000 / 0.500 (0.25) " in shown
    assert "| 10 / - " in shown
    assert "short: 3 answers were wrong" in shown
    assert "| 64 or less " in shown
    assert "`a-limit`: before 1.5." in shown


def test_what_is_told_of_the_machine_names_no_host_and_no_place() -> None:
    machine = this_machine()
    told = str(machine)
    assert machine.cores >= 1
    assert socket.gethostname() not in told
    assert str(Path(__file__).parents[2]) not in told

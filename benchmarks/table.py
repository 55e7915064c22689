"""The table that is printed, in Markdown that can be read as it is."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.outcome import LimitOutcome, Outcome, RatioOutcome, Side, Spread, Unmeasured

_HEAD = (
    "Line",
    "Against",
    "At least",
    "Reached",
    "Ours /s",
    "Peer /s",
    "CPU ms",
    "PSS MiB",
    "p95 ms",
    "Load",
    "",
)
# Above this share of the cores that it may take, the load itself may be what is measured.
_BUSY_LOAD_CORES = 1.8


def table(outcomes: Sequence[Outcome]) -> str:
    """A table of all outcomes, and below it what does not fit into a row."""
    rows = [_HEAD, *(_row(outcome) for outcome in outcomes)]
    widths = [max(len(row[at]) for row in rows) for at in range(len(_HEAD))]
    lines = [_line(row, widths) for row in rows]
    lines.insert(1, _line(["-" * width for width in widths], widths))
    notes = [note for outcome in outcomes for note in _notes(outcome)]
    return "\n".join([*lines, *([""] if notes else []), *notes])


def row_of(outcome: Outcome) -> str:
    """One line about one outcome, for while the others are measured."""
    name, against, least, reached, *_, verdict = _row(outcome)
    wanted = f"{reached}, at least {least} of {against}" if against else f"{reached}, {least}"
    return f"{name:60} {verdict:8} {wanted if reached else ''}".rstrip()


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"


def _row(outcome: Outcome) -> tuple[str, ...]:
    name = f"{outcome.title} (`{outcome.key}`)"
    verdict = f"short: {outcome.shortfall}" if outcome.shortfall else "ok"
    if isinstance(outcome, RatioOutcome):
        ours, peer = outcome.ours, outcome.peer
        return (
            name,
            outcome.against,
            f"{outcome.least:.2f}",
            f"{outcome.ratio.median:.2f} ({outcome.ratio.lowest:.2f}-{outcome.ratio.highest:.2f})",
            _rate(ours.rate),
            _rate(peer.rate),
            _cpu(ours.cpu_ms, peer.cpu_ms),
            _both(ours.peak_mib, peer.peak_mib, 0),
            _both(ours.p95_ms, peer.p95_ms, 1),
            _both(ours.load_cores, peer.load_cores, 2),
            verdict,
        )
    if isinstance(outcome, LimitOutcome):
        wanted = [f"{outcome.least:g} or more"] if outcome.least is not None else []
        wanted += [f"{outcome.most:g} or less"] if outcome.most is not None else []
        reached = f"{outcome.measured.value:.4g} {outcome.unit}"
        return (name, "", ", ".join(wanted), reached, *([""] * 6), verdict)
    return (name, *([""] * 9), verdict)


def _rate(rate: Spread) -> str:
    digits = 0 if rate.median >= 100 else 1  # noqa: PLR2004 - three figures are enough
    return f"{rate.median:,.{digits}f} ({rate.lowest:,.{digits}f}-{rate.highest:,.{digits}f})"


def _both(ours: float | None, peer: float | None, digits: int) -> str:
    shown = ["-" if each is None else f"{each:,.{digits}f}" for each in (ours, peer)]
    return "" if shown == ["-", "-"] else " / ".join(shown)


def _cpu(ours: float | None, peer: float | None) -> str:
    """Both, and the quotient, which is the ratio of the rates where processors are all there is."""
    quotient = f" ({peer / ours:.2f})" if ours and peer else ""
    return _both(ours, peer, 3) + quotient


def _notes(outcome: Outcome) -> list[str]:
    if isinstance(outcome, LimitOutcome) and outcome.measured.others:
        others = ", ".join(f"{name} {value:.4g}" for name, value in outcome.measured.others.items())
        return [f"`{outcome.key}`: {others}."]
    if isinstance(outcome, (Unmeasured, LimitOutcome)):
        return []
    notes = []
    for name, side in (("ours", outcome.ours), ("peer", outcome.peer)):
        notes += [f"`{outcome.key}`, {name}: {text}." for text in _remarks(side)]
    return notes


def _remarks(side: Side) -> list[str]:
    remarks = []
    if side.errors:
        remarks.append(f"{side.errors} wrong answers")
    if side.refusals:
        remarks.append(f"{side.refusals} refusals for want of capacity")
    if side.load_cores and side.load_cores > _BUSY_LOAD_CORES:
        remarks.append(f"the load itself took {side.load_cores:.1f} cores, and may be what was measured")
    return remarks

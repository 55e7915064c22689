"""The chart: one bar a line, its length what was reached of what was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

from benchmarks.outcome import LimitOutcome, Outcome, RatioOutcome

_LABEL, _PLOT, _VALUE = 330, 420, 250
_WIDTH = _LABEL + _PLOT + _VALUE
_TOP, _ROW, _BAR, _BOTTOM = 58, 30, 16, 30
# Times what was asked for; what reaches further is cut off, with its number beside it.
_MOST = 2.0
_STEPS = (0.0, 0.5, 1.0, 1.5, 2.0)
_STYLE = """
  .page { fill: #ffffff } .text { fill: #1f2328 } .quiet { fill: #59636e }
  .good { fill: #2f7d4f } .short { fill: #c2410c } .grid { stroke: #d1d9e0 } .limit { stroke: #1f2328 }
  text { font: 13px system-ui, -apple-system, "Segoe UI", sans-serif } .title { font-size: 16px }
  @media (prefers-color-scheme: dark) {
    .page { fill: #0d1117 } .text { fill: #f0f6fc } .quiet { fill: #9198a1 }
    .good { fill: #4ea672 } .short { fill: #f0883e } .grid { stroke: #3d444d } .limit { stroke: #f0f6fc }
  }
"""


def chart(outcomes: Sequence[Outcome], subtitle: str) -> str:
    """An SVG document that is legible on light and dark pages."""
    height = _TOP + _ROW * len(outcomes) + _BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img">',
        "<title>What each line reached of what was asked for</title>",
        f"<style>{_STYLE}</style>",
        f'<rect class="page" width="{_WIDTH}" height="{height}" rx="6"/>',
        _text(16, 24, "Reached, as a multiple of what was asked for", "text title"),
        _text(16, 43, subtitle, "quiet"),
        *(_grid(step, height) for step in _STEPS),
        *(part for number, outcome in enumerate(outcomes) for part in _bar(number, outcome)),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _x(reached: float) -> float:
    return _LABEL + _PLOT * min(reached, _MOST) / _MOST


def _grid(step: float, height: int) -> str:
    kind, width = ("limit", 1.5) if step == 1 else ("grid", 1)
    x, bottom = _x(step), height - _BOTTOM + 4
    line = (
        f'<line class="{kind}" x1="{x:g}" x2="{x:g}" y1="{_TOP - 6}" y2="{bottom}" stroke-width="{width}"/>'
    )
    return line + _text(x, bottom + 16, f"{step:g}", "quiet", anchor="middle")


def _bar(number: int, outcome: Outcome) -> list[str]:
    top = _TOP + _ROW * number
    middle = top + _BAR / 2 + 5
    length = max(1.0, _x(outcome.reached) - _LABEL)
    kind = "short" if outcome.shortfall else "good"
    return [
        _text(_LABEL - 12, middle, outcome.title, "text", anchor="end"),
        f'<rect class="{kind}" x="{_LABEL}" y="{top}" width="{length:.1f}" height="{_BAR}" rx="2"/>',
        _text(_LABEL + _PLOT + 12, middle, _value(outcome), "text"),
    ]


def _value(outcome: Outcome) -> str:
    mark = "short: " if outcome.shortfall else ""
    if isinstance(outcome, RatioOutcome):
        return f"{mark}{outcome.ratio.median:.2f} of {outcome.least:.2f}"
    if isinstance(outcome, LimitOutcome):
        wanted = f"at least {outcome.least:g}" if outcome.most is None else f"at most {outcome.most:g}"
        return f"{mark}{outcome.measured.value:.3g} {outcome.unit}, {wanted}"
    return "not measured"


def _text(x: float, y: float, text: str, kind: str, anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(text)}</text>'

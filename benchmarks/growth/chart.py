"""Curves as a picture: rates over sizes, both in powers of ten."""

from __future__ import annotations

import math
from html import escape

from benchmarks.growth.curves import Curve, Figure

_WIDTH, _HEIGHT = 640, 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 45, 60, 50
_LINE = 18
_COLOURS = ("#1f6fb4", "#c8501e", "#2e8b57", "#8a4fa3", "#b8860b", "#444444")


def draw(figure: Figure) -> str:
    """A figure as SVG; each point says its rate, and the title of it the rest."""
    chart = _Chart(figure)
    height = _HEIGHT + _LINE * (len(figure.curves) + 1)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}"',
        'font-family="sans-serif" font-size="12" fill="#222">',
        f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>',
        f'<text x="{_LEFT}" y="22" font-size="15" font-weight="bold">{escape(figure.title)}</text>',
        f'<text x="{_LEFT}" y="40">requests per second</text>',
        f'<text x="{_WIDTH / 2}" y="{_HEIGHT - 10}" text-anchor="middle">{escape(figure.over)}</text>',
        *chart.axes(),
        *(part for number, curve in enumerate(figure.curves) for part in chart.curve(number, curve)),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


class _Chart:
    def __init__(self, figure: Figure) -> None:
        points = [point for curve in figure.curves for point in curve.points]
        self._sizes = sorted({point.at for point in points})
        rates = [point.sample.rate for point in points if point.sample.rate > 0]
        self._low = math.floor(math.log10(min(rates, default=1)))
        self._high = max(math.ceil(math.log10(max(rates, default=10))), self._low + 1)

    def _x(self, size: int) -> float:
        low, high = math.log10(self._sizes[0]), math.log10(self._sizes[-1])
        share = (math.log10(size) - low) / (high - low) if high > low else 0.5
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def _y(self, rate: float) -> float:
        share = (math.log10(max(rate, 10**self._low)) - self._low) / (self._high - self._low)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)

    def axes(self) -> list[str]:
        lines = []
        for power in range(self._low, self._high + 1):
            y = self._y(10**power)
            lines.append(f'<path d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}" stroke="#ddd"/>')
            lines.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{10**power:,g}</text>')
        for size in self._sizes:
            x, y = self._x(size), _HEIGHT - _BOTTOM + 16
            lines.append(f'<text x="{x:.1f}" y="{y}" text-anchor="middle">{size:,}</text>')
        return lines

    def curve(self, number: int, curve: Curve) -> list[str]:
        colour = _COLOURS[number % len(_COLOURS)]
        places = [(self._x(point.at), self._y(point.sample.rate), point) for point in curve.points]
        line = "L".join(f"{x:.1f} {y:.1f}" for x, y, _ in places)
        parts = [f'<path d="M{line}" fill="none" stroke="{colour}" stroke-width="2"/>']
        for x, y, point in places:
            told = f"{point.at:,}: {point.sample.rate:,.0f}/s, p95 {point.sample.p95_ms or 0:,.1f} ms"
            parts.append(
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"><title>{told}</title></circle>'
                f'<text x="{x:.1f}" y="{y - 7:.1f}" text-anchor="middle" font-size="10">'
                f"{point.sample.rate:,.0f}</text>"
            )
        y = _HEIGHT + _LINE * (number + 1)
        parts.append(f'<path d="M{_LEFT} {y - 4}h24" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="{_LEFT + 32}" y="{y}">{escape(curve.name)}</text>')
        return parts

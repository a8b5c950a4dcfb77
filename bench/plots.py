"""Plots: lines in an SVG that reads well on light and dark pages. Used by report. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

# Told apart by people who see red and green alike, on white as on black.
COLOURS = {
    "hermes": "#d55e00",
    "socketio": "#0072b2",
    "nchan": "#009e73",
    "centrifugo": "#cc79a7",
    "channels-uvicorn": "#b8860b",
    "channels-daphne": "#808080",
}
_WIDTH, _HEIGHT = 760, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 20, 46, 84
_STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#333}.title{font-size:15px;font-weight:600}"
    ".grid{stroke:#8884;stroke-width:1}.line{fill:none;stroke-width:2.2}"
    "@media(prefers-color-scheme:dark){text{fill:#ddd}}"
)


@dataclass(frozen=True, slots=True)
class Series:
    """One line.

    Args:
        name: a contestant's.
        title: in the legend.
        points: x and y, ascending in x.
    """

    name: str
    title: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis.

    Args:
        title: with its unit.
        ticks: where something is written; the first and the last are its ends.
        labels: what is written there.
        is_log: whether decades are equally long.
    """

    title: str
    ticks: Sequence[float]
    labels: Sequence[str]
    is_log: bool = False

    def place(self, start: float, end: float) -> Callable[[float], float]:
        """Return a function from a value to its place."""
        scale = (lambda value: math.log10(max(value, 1e-9))) if self.is_log else float
        low, high = scale(self.ticks[0]), scale(self.ticks[-1])
        return lambda value: start + (scale(value) - low) / (high - low) * (end - start)


def decades(values: Sequence[float], title: str) -> Axis:
    """Return a logarithmic axis of whole decades, and of 2 and 5 between them where there are few."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    high = max(high, low + 1)
    steps = (1, 2, 5) if high - low <= 2 else (1,)
    ticks = [10.0**power * step for power in range(low, high) for step in steps] + [10.0**high]
    return Axis(title, ticks, [f"{tick:,g}" for tick in ticks], is_log=True)


def from_zero(values: Sequence[float], title: str) -> Axis:
    """Return an axis from zero in four or five round steps."""
    raw = max(*values, 1e-9) / 4
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw)
    ticks = [step * at for at in range(math.ceil(max(values) / step) + 1)]
    return Axis(title, ticks, [f"{tick:,g}" for tick in ticks])


def _described(lines: Sequence[Series]) -> str:
    """Say whose lines these are, and where each begins and ends: the table has the numbers."""
    ends = (f"{each.title}: {each.points[0][1]:.3g} to {each.points[-1][1]:.3g}" for each in lines if each.points)
    return "A line for each contestant, from its first to its last value. " + "; ".join(ends) + "."


def draw(title: str, x: Axis, y: Axis, lines: Sequence[Series]) -> str:
    """Return the picture as SVG."""
    to_x = x.place(_LEFT, _WIDTH - _RIGHT)
    to_y = y.place(_HEIGHT - _BOTTOM, _TOP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">',
        f"<title>{escape(title)}</title><desc>{escape(_described(lines))}</desc><style>{_STYLE}</style>",
        _text(_LEFT, 22, title, "start", "title"),
    ]
    for tick, label in zip(x.ticks, x.labels, strict=True):
        at = to_x(tick)
        parts.append(f'<path class="grid" d="M{at:.1f} {_TOP}V{_HEIGHT - _BOTTOM}"/>')
        parts.append(_text(at, _HEIGHT - _BOTTOM + 18, label, "middle"))
    for tick, label in zip(y.ticks, y.labels, strict=True):
        at = to_y(tick)
        parts.append(f'<path class="grid" d="M{_LEFT} {at:.1f}H{_WIDTH - _RIGHT}"/>')
        parts.append(_text(_LEFT - 8, at + 4, label, "end"))
    parts.append(_text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - _BOTTOM + 38, x.title, "middle"))
    parts.append(_text(_LEFT - 58, _TOP - 8, y.title, "start"))
    column = (_WIDTH - _LEFT - _RIGHT) / max(1, len(lines))
    for at, series in enumerate(lines):
        colour = COLOURS.get(series.name, "#888888")
        path = " ".join(f"{to_x(px):.1f},{to_y(py):.1f}" for px, py in series.points)
        parts.append(f'<polyline class="line" stroke="{colour}" points="{path}"/>')
        if len(series.points) < 12:
            dots = (f'<circle cx="{to_x(px):.1f}" cy="{to_y(py):.1f}" r="3.5"/>' for px, py in series.points)
            parts.append(f'<g fill="{colour}">{"".join(dots)}</g>')
        left = _LEFT + at * column
        parts.append(f'<path class="line" stroke="{colour}" d="M{left:.0f} {_HEIGHT - 14}h18"/>')
        parts.append(_text(left + 23, _HEIGHT - 10, series.title, "start"))
    return "\n".join([*parts, "</svg>", ""])


def _text(x: float, y: float, text: str, anchor: str, kind: str = "") -> str:
    attribute = f' class="{kind}"' if kind else ""
    return f'<text{attribute} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'

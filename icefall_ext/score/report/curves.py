"""Line charts as SVG. Colours come from the page's style sheet by class, so they follow its light and dark scheme."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from icefall_ext.score.report.markup import Markup, tag
from icefall_ext.score.report.metrics import Point

_WIDTH, _HEIGHT = 420, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 16, 10, 40
_MOST_POINTS = 600
_LOG_FROM = 30  # the largest value over the smallest, above which a linear axis shows only the start


class Line(NamedTuple):
    name: str
    points: list[Point]
    style: str  # a class of the style sheet


class Axis(NamedTuple):
    low: float
    high: float
    start: float  # in pixels
    end: float
    log: bool = False

    def place(self, value: float) -> float:
        low, high, value = (math.log(v) for v in (self.low, self.high, value)) if self.log else (*self[:2], value)
        return self.start + (self.end - self.start) * (value - low) / (high - low)


def chart(title: str, lines: Sequence[Line], *, of: str, x_label: str, y_label: str, log: bool = True) -> Markup | None:
    """None if there is no point to draw. `of` is what a reader who cannot see the heading above has to be told.

    With `log` values that lie far apart have a logarithmic axis.
    """
    lines = [line for line in lines if line.points]
    if not lines:
        return None
    xs, ys = zip(*(point for line in lines for point in line.points))
    x = Axis(*_wide(min(xs), max(xs)), _LEFT, _WIDTH - _RIGHT)
    log = log and min(ys) > 0 and max(ys) / min(ys) > _LOG_FROM
    x_ticks = [tick for tick in ticks(x.low, x.high) if x.low <= tick <= x.high]
    low, high = (min(ys), max(ys)) if log else _rounded_out(min(ys), max(ys))
    y = Axis(low, high, _HEIGHT - _BOTTOM, _TOP, log)
    y_ticks = log_ticks(low, high) if log else ticks(low, high)
    summary = "; ".join(
        f"{line.name} from {number(line.points[0][1])} to {number(line.points[-1][1])}" for line in lines
    )
    svg = tag(
        "svg",
        tag("title", f"{of}, {title}: {summary}, over {number(x.low)} to {number(x.high)} {x_label}"),
        [_horizontal(y.place(tick), number(tick)) for tick in y_ticks],
        [_below(x.place(tick), number(tick)) for tick in x_ticks],
        tag("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=_HEIGHT - _BOTTOM, y2=_HEIGHT - _BOTTOM, class_="axis"),
        tag("text", x_label, x=(_LEFT + _WIDTH - _RIGHT) / 2, y=_HEIGHT - 5, class_="label", text_anchor="middle"),
        tag(
            "text", f"{y_label}{', log scale' if log else ''}", class_="label", text_anchor="middle",
            transform=f"translate(12 {(_TOP + _HEIGHT - _BOTTOM) / 2}) rotate(-90)",
        ),
        [_drawn(line, x, y) for line in lines],
        tag("g", class_="cursor"),
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}", role="img", class_="chart",
    )  # fmt: skip
    legend = tag("div", [tag("span", tag("i", class_=line.style), line.name) for line in lines], class_="legend")
    return tag("figure", tag("figcaption", title, legend), svg, tag("output", class_="value"))


def _horizontal(y: float, text: str) -> list[Markup]:
    return [
        tag("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=f"{y:.1f}", y2=f"{y:.1f}", class_="grid"),
        tag("text", text, x=_LEFT - 6, y=f"{y + 3.5:.1f}", class_="tick", text_anchor="end"),
    ]


def _below(x: float, text: str) -> Markup:
    return tag("text", text, x=f"{x:.1f}", y=_HEIGHT - 22, class_="tick", text_anchor="middle")


def _drawn(line: Line, x: Axis, y: Axis) -> Markup:
    shown = thinned(line.points)
    places = [(f"{x.place(px):.1f}", f"{y.place(py):.1f}") for px, py in shown]
    dots = len(places) <= 60 and (line.style == "valid" or len(places) == 1)
    return tag(
        "g",
        tag(
            "polyline",
            points=" ".join(f"{px},{py}" for px, py in places),
            data_name=line.name,
            data_values=" ".join(f"{px:.0f}:{py:.4g}" for px, py in shown),
        ),
        [tag("circle", cx=px, cy=py, r=2.4) for px, py in places] if dots else None,
        class_=f"line {line.style}",
    )


def thinned(points: list[Point]) -> list[Point]:
    """No more than can be seen: the lowest and the highest of each stretch, so that no spike is lost."""
    if len(points) <= _MOST_POINTS:
        return points
    kept, size = [points[0]], len(points) / (_MOST_POINTS // 2)
    for part in range(_MOST_POINTS // 2):
        stretch = points[int(part * size) : int((part + 1) * size)]
        kept += sorted({min(stretch, key=lambda p: p[1]), max(stretch, key=lambda p: p[1])})
    return [*kept, points[-1]] if kept[-1] != points[-1] else kept


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers that cover low to high."""
    raw = (high - low) / about
    power = 10 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [i * step for i in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1, 2, 5) if len(decades) <= 4 else (1,)
    return [f * 10.0**decade for decade in decades for f in factors if low <= f * 10.0**decade <= high]


def number(value: float) -> str:
    if value and abs(value) < 1e-3:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa.removesuffix('.0')}e{int(exponent)}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _wide(low: float, high: float) -> tuple[float, float]:
    return (low, high) if high > low else (low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2)


def _rounded_out(low: float, high: float) -> tuple[float, float]:
    low, high = _wide(0 if 0 < low < high / 2 else low, high)
    around = ticks(low, high)
    return around[0], around[-1]

"""Plots as SVG text: scales, axes, marks. Colours and fonts are classes, so that a page or a picture may choose them.

Points may carry the figure that they show, as `data-metric` and `data-value`, for whoever wants to check it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

COLOURS = 5
"""Series that a plot can tell apart, by colour and by the form of their marks."""

_FORMS = ("circle", "square", "diamond", "triangle", "down")


@dataclass(frozen=True)
class Scale:
    """From values `low` … `high` to pixels `start` … `end`, evenly or by their logarithm.

    >>> Scale(0, 10, 100, 200)(5), Scale(1, 100, 0, 100, log=True)(10)
    (150.0, 50.0)
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Where a value lies; beyond the ends it lies at them."""
        low, high, at = (math.log(one) if self.log else one for one in (self.low, self.high, self._inside(value)))
        share = (at - low) / (high - low) if high > low else 0.5
        return self.start + share * (self.end - self.start)

    def _inside(self, value: float) -> float:
        return min(max(value, self.low), self.high)

    def ticks(self, count: int = 5) -> list[float]:
        """Round values between the ends, about so many.

        >>> Scale(0, 1, 0, 1).ticks(), Scale(1, 100, 0, 1, log=True).ticks()
        ([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0])
        """
        if self.log:
            first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
            round_ones = [factor * 10.0**power for power in range(first, last + 1) for factor in (1, 2, 5)]
            found = [one for one in round_ones if self.low <= one * (1 + 1e-9) and one <= self.high * (1 + 1e-9)]
            if len(found) < 3:  # within a decade an even step does
                return Scale(self.low, self.high, self.start, self.end).ticks(count)
            return found if len(found) <= count + 3 else [one for one in found if f"{one:e}"[0] == "1"]
        if self.high <= self.low:
            return [self.low]
        raw = (self.high - self.low) / count
        power = 10.0 ** math.floor(math.log10(raw))
        step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        return [round(n * step, 12) for n in range(first, math.floor(self.high / step + 1e-9) + 1)]


@dataclass(frozen=True)
class Frame:
    """A plot's area and its scales: what is inside the axes."""

    width: int
    height: int
    x: Scale
    y: Scale

    def axes(
        self,
        x_label: str,
        y_label: str,
        x_text: Callable[[float], str] = "{:g}".format,
        y_text: Callable[[float], str] = "{:g}".format,
        x_ticks: Sequence[float] | None = None,
    ) -> str:
        """Grid lines, ticks with their texts, and the labels of both axes."""
        left, right, under = self.x.start, self.x.end, self.y.start
        parts = []
        for one in self.y.ticks(4):
            at = self.y(one)
            parts.append(f'<line class="grid" x1="{left:.1f}" x2="{right:.1f}" y1="{at:.1f}" y2="{at:.1f}"/>')
            parts.append(_text(left - 7, at + 4, y_text(one), "tick", "end"))
        for one in self.x.ticks() if x_ticks is None else x_ticks:
            at = self.x(one)
            parts.append(f'<line class="axis" x1="{at:.1f}" x2="{at:.1f}" y1="{under:.1f}" y2="{under + 4:.1f}"/>')
            parts.append(_text(at, under + 17, x_text(one), "tick", "middle"))
        parts.append(f'<line class="axis" x1="{left:.1f}" x2="{right:.1f}" y1="{under:.1f}" y2="{under:.1f}"/>')
        parts.append(_text((left + right) / 2, under + 36, x_label, "label", "middle"))
        parts.append(_text(4, self.y.end - 13, y_label, "label", "start"))
        return "".join(parts)


def frame(
    x: tuple[float, float],
    y: tuple[float, float],
    *,
    log_x: bool = False,
    width: int = 400,
    height: int = 280,
    left: int = 46,
    top: int = 52,
) -> Frame:
    """A frame with room for a legend and the y label above, and for ticks and the x label beneath."""
    return Frame(width, height, Scale(*x, left, width - 14, log=log_x), Scale(*y, height - 44, top))


def picture(kind: str, title: str, about: str, width: int, height: int, body: str) -> str:
    """An SVG that says in words what it shows, for whoever cannot see it."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="plot {kind}" role="img" viewBox="0 0 {width} {height}" '
        f'aria-label="{escape(f"{title}. {about}")}">{body}</svg>'
    )


def legend(names: Sequence[tuple[int, str, bool]], left: float = 4, letter: float = 7.6, room: float = math.inf) -> str:
    """A row of (series, name, drawn by dashes) at the top of a plot; widths are guessed from the letters.

    Where they would pass `room` they stand closer together: the guess is that of wide letters.
    """
    closer = min(1.0, (room - left) / max(sum(40 + letter * len(name) for _, name, _ in names), 1))
    parts, at = [], left
    for number, name, dashed in names:
        if number < 0:
            parts.append(_stroke(f"M{at:.1f} 12 h18", "reference", dashed=True))
        else:
            parts.append(_stroke(f"M{at:.1f} 12 h18", f"c{number}", dashed=dashed))
            parts.append(mark(at + 9, 12, number))
        parts.append(_text(at + 24, 16, name, "key", "start"))
        at += closer * (24 + letter * len(name) + 16)
    return "".join(parts)


def line(points: Sequence[tuple[float, float]], number: int, *, dashed: bool = False) -> str:
    """A line through pixels, in the colour of a series; of a negative number as a reference."""
    if not points:
        return ""
    way = "M" + " L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return _stroke(way, f"c{number}" if number >= 0 else "reference", dashed=dashed or number < 0)


def band(points: Sequence[tuple[float, float, float]], number: int) -> str:
    """The area between (x, low, high), in pixels."""
    if not points:
        return ""
    upper = " L".join(f"{x:.1f} {high:.1f}" for x, _, high in points)
    lower = " L".join(f"{x:.1f} {low:.1f}" for x, low, _ in reversed(points))
    return f'<path class="band f{number}" d="M{upper} L{lower} Z"/>'


def mark(x: float, y: float, number: int, size: float = 3.6, told: str = "", data: str = "") -> str:
    """The mark of a series at a pixel; `told` is what it says when it is pointed at."""
    form = _FORMS[number % COLOURS]
    about = f'class="mark f{number % COLOURS}"{data}'
    title = f"<title>{escape(told)}</title>" if told else ""
    if form == "circle":
        return f'<circle {about} cx="{x:.1f}" cy="{y:.1f}" r="{size:g}">{title}</circle>'
    if form == "square":
        side = 1.8 * size
        place = f'x="{x - side / 2:.1f}" y="{y - side / 2:.1f}" width="{side:.1f}" height="{side:.1f}"'
        return f"<rect {about} {place}>{title}</rect>"
    corners = {
        "diamond": ((0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)),
        "triangle": ((0, -1.2), (1.15, 0.9), (-1.15, 0.9)),
        "down": ((0, 1.2), (1.15, -0.9), (-1.15, -0.9)),
    }[form]
    places = " ".join(f"{x + size * dx:.1f},{y + size * dy:.1f}" for dx, dy in corners)
    return f'<polygon {about} points="{places}">{title}</polygon>'


def bar(left: float, right: float, top: float, under: float, number: int, told: str, data: str = "") -> str:
    """A bar between pixels."""
    place = f'x="{left:.1f}" y="{top:.1f}" width="{max(right - left, 0.5):.1f}" height="{max(under - top, 0):.1f}"'
    return f'<rect class="bar f{number}"{data} {place}><title>{escape(told)}</title></rect>'


def span(x0: float, x1: float, y: float, number: int) -> str:
    """An interval as a horizontal line with ends."""
    return _stroke(f"M{x0:.1f} {y:.1f} H{x1:.1f} M{x0:.1f} {y - 3:.1f} v6 M{x1:.1f} {y - 3:.1f} v6", f"c{number}")


def upright(x: float, y0: float, y1: float) -> str:
    """A vertical reference."""
    return _stroke(f"M{x:.1f} {y0:.1f} V{y1:.1f}", "reference", dashed=True)


def words(x: float, y: float, text: str, kind: str = "tick", anchor: str = "start") -> str:
    """A text at a pixel."""
    return _text(x, y, text, kind, anchor)


def _text(x: float, y: float, text: str, kind: str, anchor: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _stroke(way: str, kind: str, *, dashed: bool = False) -> str:
    return f'<path class="line {kind}{" dashed" if dashed else ""}" d="{way}"/>'

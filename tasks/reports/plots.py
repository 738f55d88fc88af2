"""The plots of a report: figures in, one SVG out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from tasks.reports import svg


@dataclass(frozen=True)
class Point:
    """A figure at (x, y); `low` and `high` are its interval, `metric` says where the figure stands, for a check."""

    x: float
    y: float
    told: str
    low: float | None = None
    high: float | None = None
    metric: str = ""

    @property
    def data(self) -> str:
        """Its attributes."""
        return f' data-metric="{escape(self.metric)}" data-value="{self.y!r}"' if self.metric else ""


@dataclass(frozen=True)
class Series:
    """Points that belong together, under a name."""

    name: str
    points: Sequence[Point]
    dashed: bool = False
    reference: bool = False


@dataclass(frozen=True)
class Spot:
    """An item on a map: its place, the number of its kind, and its words."""

    x: float
    y: float
    kind: int
    told: str


@dataclass(frozen=True)
class Span:
    """A value with its interval, under a name; `flagged` is drawn so that it stands out."""

    name: str
    value: float
    low: float
    high: float
    flagged: bool
    told: str
    metric: str = ""


def percent(value: float) -> str:
    """A share as people read it.

    >>> percent(0.2), percent(0.025)
    ('20%', '2.5%')
    """
    return f"{100 * value:.3g}%"


def curves(
    title: str,
    about: str,
    series: Sequence[Series],
    *,
    x_label: str,
    y_label: str,
    log_x: bool = False,
    y_range: tuple[float, float] | None = None,
    x_text: Callable[[float], str] = "{:g}".format,
    y_text: Callable[[float], str] = percent,
) -> str:
    """Lines with marks and, where points have one, the band of their intervals. A reference has no marks."""
    points = [one for many in series for one in many.points]
    xs = [one.x for one in points] or [1.0]
    tops = [value for one in points for value in (one.y, one.high) if value is not None] or [1.0]
    lows = [value for one in points for value in (one.y, one.low) if value is not None] or [0.0]
    y = y_range or _round(min(lows), max(tops))
    x = (min(xs), max(xs)) if min(xs) < max(xs) else (0.5 * min(xs), 2 * max(xs))
    area = svg.frame(x, y, log_x=log_x)
    names = [(_number(place, one), one.name, one.dashed) for place, one in enumerate(series)]
    body = [svg.legend(names, room=area.width)]
    body.append(area.axes(x_label, y_label, x_text, y_text))
    for place, one in enumerate(series):
        number = _number(place, one)
        spans = [(area.x(p.x), area.y(p.low), area.y(p.high)) for p in one.points if p.low is not None and p.high]
        body.append(svg.band(spans, max(number, 0)))
        body.append(svg.line([(area.x(p.x), area.y(p.y)) for p in one.points], number, dashed=one.dashed))
    for place, one in enumerate(series):
        if not one.reference:
            marks = [svg.mark(area.x(p.x), area.y(p.y), place, told=p.told, data=p.data) for p in one.points]
            body.append("".join(marks))
    return svg.picture("curves", title, about, area.width, area.height, "".join(body))


def bars(
    title: str,
    about: str,
    names: Sequence[str],
    series: Sequence[Series],
    *,
    x_label: str,
    y_label: str,
) -> str:
    """Bars side by side, one group a name; points are in the order of the names."""
    top = max((one.y for many in series for one in many.points), default=1.0)
    area = svg.frame((0, max(len(names), 1)), _round(0, top))
    body = [svg.legend([(place, one.name, False) for place, one in enumerate(series)])]
    body.append(
        area.axes(
            x_label,
            y_label,
            lambda at: names[int(at)] if int(at) < len(names) else "",
            percent,
            [n + 0.5 for n in range(len(names))],
        )
    )
    thick = 0.8 / max(len(series), 1)
    for place, many in enumerate(series):
        for n, one in enumerate(many.points):
            left = n + 0.1 + place * thick
            body.append(
                svg.bar(area.x(left), area.x(left + thick) - 1, area.y(one.y), area.y(0), place, one.told, one.data)
            )
    return svg.picture("bars", title, about, area.width, area.height, "".join(body))


def steps(
    title: str,
    about: str,
    edges: Sequence[float],
    series: Sequence[tuple[str, Sequence[float]]],
    *,
    x_label: str,
    y_label: str,
) -> str:
    """Histograms over the same edges, one behind the other."""
    top = max((max(shares, default=0.0) for _, shares in series), default=1.0)
    area = svg.frame((edges[0], edges[-1]), _round(0, top))
    body = [svg.legend([(place, name, False) for place, (name, _) in enumerate(series)])]
    body.append(area.axes(x_label, y_label, "{:g}".format, percent))
    for place, (_, shares) in enumerate(series):
        outline = [(area.x(edge), area.y(share)) for n, share in enumerate(shares) for edge in (edges[n], edges[n + 1])]
        body.append(svg.band([(x, area.y(0), y) for x, y in outline], place))
        body.append(svg.line(outline, place))
    return svg.picture("steps", title, about, area.width, area.height, "".join(body))


def scatter(title: str, about: str, names: Sequence[str], spots: Sequence[Spot]) -> str:
    """A map of items; each says its words when it is pointed at."""
    width, height = 900, 560
    xs, ys = [one.x for one in spots] or [0.0], [one.y for one in spots] or [0.0]
    x, y = svg.Scale(min(xs), max(xs), 16, width - 16), svg.Scale(min(ys), max(ys), height - 16, 44)
    body = [svg.legend([(n, name, False) for n, name in enumerate(names)], 16, 15)]  # letters may be large on a phone
    body += [svg.mark(x(one.x), y(one.y), one.kind, 3.2, one.told) for one in spots]
    return svg.picture("scatter", title, about, width, height, "".join(body))


def spans(title: str, about: str, rows: Sequence[Span], *, x_label: str) -> str:
    """Values with intervals, one beneath the other, around a line at zero."""
    width, left, step = 400, 176, 22
    height = 60 + step * len(rows)
    ends = [value for one in rows for value in (one.low, one.high)] or [0.0]
    low, high = _round(min(*ends, 0.0), max(*ends, 0.0))
    area = svg.Frame(width, height, svg.Scale(low, high, left, width - 14), svg.Scale(0, 1, height - 44, 12))
    body = [svg.upright(area.x(0), 8, height - 44)]
    for one in area.x.ticks():
        at = area.x(one)
        body.append(svg.words(at, height - 27, f"{one:+g}" if one else "0", anchor="middle"))
    body.append(svg.words((left + width - 14) / 2, height - 8, x_label, "label", "middle"))
    for n, row in enumerate(rows):
        middle, number = 18 + step * n, 1 if row.flagged else 0
        data = Point(0, row.value, "", metric=row.metric).data
        body.append(svg.words(left - 10, middle + 4, _fitting(row.name), anchor="end"))
        body.append(svg.span(area.x(row.low), area.x(row.high), middle, number))
        body.append(svg.mark(area.x(row.value), middle, number, 4, row.told, data))
    return svg.picture("spans", title, about, width, height, "".join(body))


def _number(place: int, one: Series) -> int:
    return -1 if one.reference else place


def _round(low: float, high: float) -> tuple[float, float]:
    """Ends that hold both values and are ticks.

    >>> _round(0, 0.63)
    (0.0, 0.8)
    """
    if high <= low:
        return low, low + 1.0
    ticks = svg.Scale(low, high, 0, 1).ticks(4)
    step = ticks[1] - ticks[0] if len(ticks) > 1 else high - low
    least = ticks[0] if ticks[0] <= low + 1e-12 else ticks[0] - step
    most = ticks[-1] if ticks[-1] >= high - 1e-12 else ticks[-1] + step
    return round(least, 12), round(most, 12)


def _fitting(name: str, letters: int = 26) -> str:
    return name if len(name) <= letters else name[: letters - 1].rstrip() + "…"

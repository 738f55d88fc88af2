"""Small pieces of HTML. What comes from data is escaped here, and figures say where they stand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

Text = Callable[[float], str]


def percent(value: float) -> str:
    """A share to a tenth of a percent.

    >>> percent(0.28456)
    '28.5%'
    """
    return f"{100 * value:.1f}%"


def hundred(value: float) -> str:
    """Of 100 so many, whole from one on.

    >>> hundred(0.2846), hundred(0.0027)
    ('28', '0.3')
    """
    return f"{100 * value:.0f}" if value >= 0.01 or not value else f"{100 * value:.1f}"


def points(value: float) -> str:
    """With one digit behind the point."""
    return f"{value:,.1f}"


def fine(value: float) -> str:
    """With three digits behind the point."""
    return f"{value:.3f}"


def whole(value: float) -> str:
    """A count."""
    return f"{value:,.0f}"


def pointer(*path: str | int) -> str:
    """Where a figure stands in a JSON document (RFC 6901, without the first slash).

    >>> pointer("directions", "text_to_image", "hit_rate@1", "value")
    'directions/text_to_image/hit_rate@1/value'
    """
    return "/".join(str(part).replace("~", "~0").replace("/", "~1") for part in path)


def looked_up(figures: Any, path: Sequence[str | int]) -> Any:
    """What stands at a path; None where there is nothing."""
    for part in path:
        if isinstance(figures, Mapping):
            figures = figures.get(str(part))
        elif isinstance(figures, Sequence) and isinstance(part, int) and part < len(figures):
            figures = figures[part]
        else:
            return None
    return figures


@dataclass(frozen=True)
class Figures:
    """A document of figures, by the name of the attribute that says where one stands."""

    name: str
    values: Mapping[str, Any]

    def value(self, *path: str | int) -> Any:
        """The figure at a path; None where there is none."""
        return looked_up(self.values, path)

    def tell(self, *path: str | int, text: Text = points) -> str:
        """The figure at a path, for people, with its exact value and its place; a dash where there is none.

        >>> Figures("data-metric", {"rsum": 279.94}).tell("rsum")
        '<data value="279.94" data-metric="rsum">279.9</data>'
        """
        found = self.value(*path)
        if found is None:
            return "–"
        where = escape(pointer(*path))
        return f'<data value="{found!r}" {self.name}="{where}">{escape(text(found))}</data>'

    def interval(self, *path: str | int, text: Text = points) -> str:
        """Both ends of an interval; nothing where there is none."""
        if self.value(*path) is None:
            return ""
        low, high = (self.tell(*path, end, text=text) for end in (0, 1))
        return f'<span class="interval">{low} – {high}</span>'


def table(caption: str, heads: Sequence[str], rows: Iterable[Sequence[str]], *, words: int = 1) -> str:
    """A table of cells that are HTML already; the first `words` columns are words, the others figures."""
    made = []
    for row in rows:
        cells = [
            f'<th scope="row">{one}</th>' if not place else f"<td{'' if place >= words else ' class=words'}>{one}</td>"
            for place, one in enumerate(row)
        ]
        made.append(f"<tr>{''.join(cells)}</tr>")
    head = "".join(
        f'<th scope="col"{" class=words" if place < words else ""}>{escape(one)}</th>'
        for place, one in enumerate(heads)
    )
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{escape(caption)}"><table>'
        f"<caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{''.join(made)}</tbody></table></div>"
    )


def figure(plot: str, caption: str) -> str:
    """A plot with what it shows."""
    return f"<figure>{plot}<figcaption>{caption}</figcaption></figure>"


def section(name: str, title: str, lead: str, *parts: str) -> str:
    """A section under its title; nothing where it has no parts."""
    inside = "".join(parts)
    if not inside:
        return ""
    return f'<section id="{name}"><h2>{escape(title)}</h2><p class="lead">{lead}</p>{inside}</section>'


def listing(items: Iterable[str]) -> str:
    """A list of words that are escaped here; nothing where there are none."""
    made = "".join(f"<li>{escape(one)}</li>" for one in items)
    return f"<ul>{made}</ul>" if made else ""

from __future__ import annotations

import itertools
import re
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.reports import plots, svg
from tasks.reports.licences import use_of
from tasks.reports.markup import Figures, listing, pointer, table
from tasks.reports.plots import Point, Series, Span, Spot
from tasks.reports.raster import png
from tasks.reports.words import noun

EVIL = '<b onload="x">&'
WAYS = [Point(1, 0.1, EVIL, 0.05, 0.2, "a/0"), Point(10, 0.5, "ten", 0.4, 0.6, "a/1")]
DRAWN = {
    "curves": plots.curves(EVIL, EVIL, [Series(EVIL, WAYS), Series("chance", WAYS, reference=True)], x_label="k",
                           y_label="y", log_x=True),
    "bars": plots.bars("t", "a", [EVIL, "1"], [Series("s", WAYS)], x_label="x", y_label="y"),
    "steps": plots.steps("t", "a", [0.0, 0.5, 1.0], [(EVIL, [0.2, 0.8])], x_label="x", y_label="y"),
    "scatter": plots.scatter("t", "a", [EVIL, "b"], [Spot(0, 0, 0, EVIL), Spot(1, 1, 1, "猫")]),
    "spans": plots.spans("t", "a", [Span(EVIL, -1, -2, 0.5, True, EVIL, "s/0")], x_label="x"),
    "nothing": plots.curves("t", "a", [], x_label="x", y_label="y"),
}  # fmt: skip


@pytest.mark.parametrize("kind", DRAWN)
def test_a_plot_is_well_formed_and_safe(kind: str) -> None:
    """Every plot parses as XML, says what it shows, holds data as text alone, and becomes a PNG."""
    tree = ET.fromstring(DRAWN[kind])
    assert tree.get("role") == "img"
    assert tree.get("aria-label")
    assert not [one for one in tree.iter() if one.tag.endswith("}b")]
    assert not re.findall(r"\b(?:nan|inf)\b", DRAWN[kind])
    assert png(DRAWN[kind], 1)[:4] == b"\x89PNG"


def test_marks_say_which_figure_they_are() -> None:
    """A mark has its exact value and where it stands; a reference has none."""
    assert re.findall(r'data-metric="([^"]*)" data-value="([^"]*)"', DRAWN["curves"]) == [
        ("a/0", "0.1"),
        ("a/1", "0.5"),
    ]


@given(st.floats(-1e3, 1e3), st.floats(1e-3, 1e3), st.integers(2, 8))
def test_ticks_are_round_and_inside(low: float, width: float, count: int) -> None:
    """Ticks lie between the ends, rise evenly, and are neither one nor a crowd."""
    ticks = svg.Scale(low, low + width, 0, 1).ticks(count)
    assert all(low - 1e-6 * width <= one <= low + width * (1 + 1e-6) for one in ticks)
    assert 1 <= len(ticks) <= 2 * count + 2
    steps = [after - before for before, after in itertools.pairwise(ticks)]
    assert all(step == pytest.approx(steps[0], rel=1e-6) for step in steps)


def test_a_scale_is_where_a_plot_puts_a_value() -> None:
    """The ends lie at the ends, beyond them nothing; a logarithmic scale gives equal room to equal ratios."""
    even, log = svg.Scale(0, 4, 10, 50), svg.Scale(1, 100, 0, 100, log=True)
    assert [even(one) for one in (-1, 0, 1, 4, 9)] == [10, 10, 20, 50, 50]
    assert log(10) - log(1) == pytest.approx(log(100) - log(10))


def test_markup_escapes_what_it_is_given() -> None:
    """Captions, heads and lists hold text, never tags; a figure that is not there is a dash."""
    made = table(EVIL, [EVIL], [["1"]]) + listing([EVIL])
    assert EVIL not in made
    assert "&lt;b" in made
    figures = Figures("data-metric", {"a/b": {"~": 0.5}})
    assert figures.tell("a/b", "~") == '<data value="0.5" data-metric="a~1b/~0">0.5</data>'
    assert pointer("a/b", "~", 3) == "a~1b/~0/3"
    assert figures.tell("nothing", "there") == "–"
    assert figures.interval("nothing") == ""


@pytest.mark.parametrize(
    ("name", "use"),
    [
        ("Apache-2.0", "free"), ("MIT", "free"), ("BSD-3-Clause", "free"), ("CC0-1.0", "free"),
        ("CC-BY-4.0", "attribution"), ("cc-by-sa-4.0", "copyleft"), ("GPL-2.0-only", "copyleft"),
        ("cc-by-nc-4.0", "non-commercial"), ("CC BY-NC-SA 4.0", "non-commercial"),
        ("research only", "non-commercial"), ("FAIR Noncommercial Research License", "non-commercial"),
        ("openrail", "restricted"), ("llama3.2", "restricted"), ("other", "unknown"), ("", "unknown"),
    ],
)  # fmt: skip
def test_licences_are_told_apart(name: str, use: str) -> None:
    """What forbids commercial use is never taken for what allows it, and what is not known is not taken for free."""
    assert use_of(name) == use


def test_an_unknown_modality_has_words() -> None:
    """A modality that nobody has a word for is spoken of by its name."""
    assert noun("scent", many=False) == "scent item"

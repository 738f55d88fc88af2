from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.metrics.bootstrap import group_weights, interval
from tasks.metrics.retrieval import CUTS
from tasks.metrics.scripts import script_of
from tasks.metrics.slices import Asked, holm, slice_rows, sliceable, terciles


def asked(hits: np.ndarray, groups: np.ndarray, **labels: np.ndarray) -> Asked:
    """Queries that hit at rank 1, and so within 5 and 10, or not at all."""
    return Asked({f"hit_rate@{k}": hits.astype(float) for k in CUTS}, groups, labels)


def words(flags: np.ndarray) -> np.ndarray:
    """Flags as values of an attribute."""
    return np.array(["yes" if one else "no" for one in flags], dtype=object)


def test_a_slice_is_counted_by_hand() -> None:
    """Rates, rsum, gap and interval of a slice are those of a plain loop over its queries and the resamples."""
    generator = np.random.default_rng(0)
    groups = np.repeat(np.arange(30), 2)
    values = {f"hit_rate@{k}": (generator.random(60) < k / 12).astype(float) for k in CUTS}
    kind = np.array([None if n % 7 == 0 else "ab"[n % 2] for n in range(60)], dtype=object)
    weights = group_weights(30, 50, 1)
    rows = slice_rows({"x_to_y": Asked(values, groups, {"kind": kind})}, ["kind"], weights, least_groups=2)
    row = next(one for one in rows if one["value"] == "a")
    mine = [n for n in range(60) if kind[n] == "a"]
    rest = [n for n in range(60) if kind[n] == "b"]
    assert (row["queries"], row["groups"]) == (len(mine), len({n // 2 for n in mine}))

    def score(members: list[int], times: np.ndarray) -> float:
        total = sum(times[n // 2] for n in members)
        return 100 * sum(values[f"hit_rate@{k}"][n] * times[n // 2] for k in CUTS for n in members) / total / 3

    gaps = [score(mine, one) - score(rest, one) for one in weights]
    assert row["gap"]["value"] == pytest.approx(score(mine, np.ones(30)) - score(rest, np.ones(30)))
    assert row["gap"]["interval"] == pytest.approx(interval(np.array(gaps), 0.95))
    assert row["hit_rate@5"]["value"] == pytest.approx(np.mean([values["hit_rate@5"][n] for n in mine]))
    assert "rsum" not in row


def test_two_directions_give_an_rsum() -> None:
    """A slice that both directions have adds up to the rsum of its own queries, and rsum / 6 is what its gap is of."""
    generator = np.random.default_rng(1)
    groups = np.arange(80)
    kind = words(groups % 4 == 0)
    ways = {name: asked(generator.random(80) < 0.4, groups, kind=kind) for name in ("x_to_y", "y_to_x")}
    rows = slice_rows(ways, ["kind"], group_weights(80, 100, 0))
    both = {row["value"]: row for row in rows if row["direction"] == "both"}
    sums = {
        value: 100 * sum(way.values[f"hit_rate@{k}"][kind == value].mean() for way in ways.values() for k in CUTS)
        for value in ("yes", "no")
    }
    for value, other in (("yes", "no"), ("no", "yes")):
        assert both[value]["rsum"]["value"] == pytest.approx(sums[value])
        low, high = both[value]["rsum"]["interval"]
        assert low <= sums[value] <= high
        assert both[value]["gap"]["value"] == pytest.approx((sums[value] - sums[other]) / 6)
    assert len(rows) == 6


def test_a_planted_gap_is_flagged() -> None:
    """Where one slice hits in 30% and the rest in 60% it is weak and stands first, the rest is strong."""
    generator = np.random.default_rng(2)
    groups = np.arange(400)
    poor = groups % 3 == 0
    hits = generator.random(400) < np.where(poor, 0.3, 0.6)
    even = np.array([str(n) for n in generator.integers(5, size=400)], dtype=object)
    way = asked(hits, groups, poor=words(poor), even=even)
    rows = slice_rows({"x": way}, ["even", "poor"], group_weights(400, 200, 0))
    verdicts = {(row["attribute"], row["value"]): row["verdict"] for row in rows}
    assert verdicts.pop(("poor", "yes")) == "weak"
    assert verdicts.pop(("poor", "no")) == "strong"
    assert set(verdicts.values()) == {"even"}
    assert (rows[0]["attribute"], rows[0]["value"]) == ("poor", "yes")
    shy = slice_rows({"x": asked(hits, groups, poor=words(poor))}, ["poor"], group_weights(400, 200, 0), least_gap=50)
    assert {row["verdict"] for row in shy} == {"even"}


@pytest.mark.parametrize(("rate", "size"), [(0.05, 1), (0.5, 1), (0.2, 5)])
def test_chance_is_seldom_flagged(rate: float, size: int) -> None:
    """Where no slice differs, a family of 17 slices, some of 20 groups only, has a false flag in 5 of 100 draws.

    Over 100 draws the binomial's 99% bound is 11. A group's `size` queries hit alike in half of the cases.
    """
    generator = np.random.default_rng(3)
    groups = np.repeat(np.arange(400), size)
    false = 0
    for seed in range(100):
        shared = generator.random(400) < rate
        hits = np.where(generator.random(len(groups)) < 0.5, shared[groups], generator.random(len(groups)) < rate)
        small = words(groups < 20)
        third = np.array([str(n) for n in generator.integers(3, size=len(groups))], dtype=object)
        dozen = np.array([str(n) for n in groups % 12], dtype=object)
        way = asked(hits, groups, small=small, third=third, dozen=dozen)
        rows = slice_rows({"x": way}, sorted(way.labels), group_weights(400, 100, seed), least_gap=0)
        assert len(rows) == 17
        false += any(row["verdict"] in ("weak", "strong") for row in rows)
    assert false <= 11


def test_few_groups_are_never_judged() -> None:
    """A slice of 19 groups, or whose rest has 19, has its rates and no gap, however bad it is."""
    groups = np.arange(100)
    small = words(groups < 19)
    rows = slice_rows({"x": asked(groups >= 19, groups, small=small)}, ["small"], group_weights(100, 100, 0))
    assert [(row["verdict"], row["gap"]) for row in rows] == [("too few", None)] * 2
    assert {row["value"]: row["hit_rate@1"]["value"] for row in rows} == {"yes": 0, "no": 1}
    way = asked(groups >= 20, groups, small=words(groups < 20))
    rows = slice_rows({"x": way}, ["small"], group_weights(100, 100, 0))
    assert {row["value"]: row["verdict"] for row in rows} == {"yes": "weak", "no": "strong"}


def test_no_hit_in_a_small_slice_is_no_proof() -> None:
    """Twenty misses where the rest hits in 15% have a chance of .04 by the binomial: their p-value is no smaller."""
    groups = np.arange(420)
    hits = (groups >= 20) & (groups % 20 < 3)
    (row, _) = slice_rows({"x": asked(hits, groups, kind=words(groups < 20))}, ["kind"], group_weights(420, 500, 0))
    assert row["hit_rate@1"]["value"] == 0
    assert row["gap"]["p"] >= (1 - hits[20:].mean()) ** 20


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_the_step_down_rule(p: list[float]) -> None:
    """At any level exactly those fall that the rule of Holm's paper lets fall, one after the other."""
    adjusted = holm(p)
    for level in (0.01, 0.05, 0.2):
        falls = set()
        for place, number in enumerate(sorted(range(len(p)), key=lambda n: p[n])):
            if p[number] * (len(p) - place) >= level:
                break
            falls.add(number)
        assert {number for number, one in enumerate(adjusted) if one < level} == falls


def test_attributes_of_few_values_are_taken() -> None:
    """Two to twenty distinct values make slices; one, many or none do not, and what is missing is no value."""
    labels = {
        "one": ["a"] * 42,
        "two": ["a", None] * 20 + ["b", "b"],
        "twenty": [str(n % 20) for n in range(42)],
        "many": [str(n % 21) for n in range(42)],
        "none": [None] * 42,
    }
    assert sliceable({name: np.array(one, dtype=object) for name, one in labels.items()}) == ["twenty", "two"]


@given(st.lists(st.integers(0, 30), min_size=1, max_size=60))
def test_terciles_are_ordered_thirds(sizes: list[int]) -> None:
    """Equal numbers share a third, a third holds what its name says, and none but one with ties passes a third."""
    array = np.array(sizes)
    names = terciles(array)
    parts = {name: array[names == name] for name in set(names)}
    assert len(parts) <= 3
    spans = sorted((int(part.min()), int(part.max()), name, part) for name, part in parts.items())
    assert all(a[1] < b[0] for a, b in pairwise(spans))
    for low, high, name, part in spans:
        assert name == f"{low} – {high}"
        without = part[part < high]
        assert len(without) <= math.ceil(len(sizes) / 3)


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("a dog", "Latin"),
        ("ｄｏｇ", "Latin"),
        ("狗 a", "Han"),
        ("犬です", "Japanese"),
        ("ｶﾀｶﾅ", "Japanese"),
        ("собака", "Cyrillic"),
        ("σκύλος", "Greek"),
        ("كلب", "Arabic"),
        ("कुत्ता", "Devanagari"),
        ("강아지", "Hangul"),
        ("כלב", "Hebrew"),
        ("ab вг", "Cyrillic"),
        ("3 × 4 😀", "none"),
    ],
)
def test_scripts_are_told_by_letters(text: str, script: str) -> None:
    """A text is of the script of most of its letters, in whatever form they are written; equal counts go by name."""
    assert script_of(text) == script

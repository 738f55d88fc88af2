from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from storage import schemas
from storage.filters import Filter, between, eq, isin, ne
from storage.tables import Store
from tests.storage.rows import PUBLISHED, item, pair

# what a careless escape trips over
NASTY = st.text("'\"`\\\0\n;%_-/*a", max_size=8)
TEXTS = st.text(max_size=12) | NASTY


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A database that the examples of one test share."""
    return Store(tmp_path_factory.mktemp("tables"))


def write(store: Store, values: list[str]) -> None:
    """Rows whose keys count and whose manifests are `values`."""
    rows = [{"name": str(number), "manifest": value} for number, value in enumerate(values)]
    store.drop("published")
    store.upsert("published", PUBLISHED, rows)


def found(store: Store, where: Filter) -> list[str]:
    """The manifests that pass."""
    return sorted(store.strings("published", "manifest", where))


@settings(max_examples=50, deadline=None)
@given(TEXTS, TEXTS)
@example("x' OR '1'='1", "x")
@example("猫", "\U00020001\u0301")
@example("a\\", "a\\\\")
def test_a_string_matches_itself_alone(store: Store, one: str, other: str) -> None:
    """Any string written is found by `eq` and by no other string, and `ne` finds the rest."""
    assume(one != other)
    write(store, [one, other, one + "'", "\\" + one])
    expected = [one, other, one + "'", "\\" + one]
    assert found(store, eq("manifest", one)) == [value for value in expected if value == one]
    assert found(store, ne("manifest", one)) == sorted(value for value in expected if value != one)
    assert store.strings("published", "manifest", eq("name", "0") & eq("manifest", one)) == [one]


@settings(max_examples=30, deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=8), st.lists(TEXTS, max_size=4), TEXTS, TEXTS)
def test_sets_and_ranges_agree_with_python(store: Store, values: list[str], some: list[str], lo: str, hi: str) -> None:
    """`isin` is membership, nothing for no values, and `between` is lo ≤ x < hi in the order of code points."""
    write(store, values)
    assert found(store, isin("manifest", some)) == sorted(value for value in values if value in some)
    assert found(store, isin("manifest", [])) == []
    assert found(store, between("manifest", lo, hi)) == sorted(value for value in values if lo <= value < hi)


@settings(max_examples=30, deadline=None)
@given(st.integers(-(2**31), 2**31 - 1), st.integers(-(2**31), 2**31 - 1))
def test_whole_numbers_agree_with_python(store: Store, lo: int, hi: int) -> None:
    """A range of whole numbers is lo ≤ x < hi, negative ones included."""
    buckets = [-5, 0, 7, 4095]
    store.upsert("items", schemas.items(), [item(str(one), bucket=one) for one in buckets])
    inside = sorted(str(one) for one in buckets if lo <= one < hi)
    assert sorted(store.strings("items", "key", between("bucket", lo, hi))) == inside


def test_values_are_compared_by_their_type(store: Store) -> None:
    """Truth values and fractions are compared as such; a column may bear the name of an SQL word."""
    store.upsert("items", schemas.items(), [item("a", group="g"), item("b", group="h", truncated=True)])
    store.upsert("pairs", schemas.pairs(), [pair("a", "b", weight=0.5), pair("b", "a", weight=2.0)])
    assert store.strings("items", "key", eq("truncated", True) & eq("group", "h")) == ["b"]
    assert store.strings("pairs", "left", eq("weight", np.float64(0.5))) == ["a"]
    assert store.strings("pairs", "left", between("weight", 0.75, 1e20)) == ["b"]
    assert store.strings("pairs", "left", ne("round", 1) & between("weight", 1e-7, 1.0)) == ["a"]


@given(st.text(max_size=6))
@example("a b")
@example("a`b")
@example("名")
def test_what_is_no_identifier_is_no_column(name: str) -> None:
    """A column name is an ASCII identifier; anything else is refused before it becomes SQL."""
    assume(not (name.isascii() and name.isidentifier()))
    for make in (
        eq,
        ne,
        lambda column, value: isin(column, [value]),
        lambda column, value: between(column, value, value),
    ):
        with pytest.raises(ValueError, match="is not a column name"):
            make(name, "x")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_refused(value: Any) -> None:
    """NaN and infinities have no form in SQL: they are refused, not taken for the name of a column."""
    with pytest.raises(ValueError, match="cannot be compared with"):
        eq("bucket", value)


def test_both_conditions_hold_as_they_stand(store: Store) -> None:
    """`&` binds each side as a whole: (a and b) and c, whatever the sides consist of."""
    write(store, ["a", "b", "c"])
    either = Filter("`manifest` = 'a' OR `manifest` = 'b'")
    assert found(store, either & eq("name", "1")) == ["b"]
    assert found(store, eq("name", "1") & either) == ["b"]

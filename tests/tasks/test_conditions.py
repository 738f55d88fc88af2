from __future__ import annotations

import json
import math
import operator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from config.errors import UserError
from storage import schemas
from storage.ann import build_index
from storage.filters import eq
from storage.fulltext import build_full_text
from storage.signs import bits_column
from storage.tables import Store, vector_column
from tasks import galleries, narrowing
from tasks.conditions import FIELDS, Condition, parse, split
from tasks.galleries import Galleries

NASTY = ("x' OR '1'='1", "%", "_", "猫", "a\\", '"', "it's", "1; DROP TABLE items", "007", "7", "2020", "true", "", " ")
NAMES = ("year", "place", "a b", "名", "x'y", "split.of")
SCALARS = st.sampled_from(NASTY) | st.integers(-3, 3) | st.sampled_from([0.5, -1.0, 2.0]) | st.booleans()
ATTRIBUTES = st.dictionaries(st.sampled_from(NAMES), SCALARS, max_size=4)
COMPARES = {
    "=": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


def plainly(found: Any, how: str, value: Any) -> bool:
    """The rule of `Condition`, case by case."""
    if how == "in":
        return any(plainly(found, "=", one) for one in value)
    if isinstance(value, bool):
        as_truth = {"true": True, "false": False}.get(found.strip().lower()) if isinstance(found, str) else found
        if not isinstance(as_truth, bool):
            return how == "!="
        return bool(COMPARES[how](as_truth, value)) if how in ("=", "!=") else False
    if isinstance(value, str):
        return bool(COMPARES[how](found, value)) if isinstance(found, str) else how == "!="
    try:
        number = None if isinstance(found, bool) else float(found)
    except ValueError:
        number = None
    return how == "!=" if number is None else bool(COMPARES[how](number, value))


@settings(max_examples=300)
@given(SCALARS, st.sampled_from([*COMPARES, "in"]), SCALARS)
@example("007", "=", 7)
@example(True, "=", 1)
@example("9", "<", "10")
def test_comparisons_follow_the_rule(found: Any, how: str, value: Any) -> None:
    """Numbers compare as numbers, also with a text that is one; texts by code points; two kinds are unequal."""
    asked = Condition("place", how, (value,) if how == "in" else value)  # type: ignore[arg-type]
    assert asked.holds({"place": found}) == plainly(found, how, asked.value)
    assert not asked.holds({"year": found})


def test_conditions_are_read_as_written() -> None:
    """Each form gives the condition that it shows; a field's value stays a text, and quotes make any value one."""
    forms = {
        "year>=2020": Condition("year", ">=", 2020),
        " year != 20.5 ": Condition("year", "!=", 20.5),
        'code="007"': Condition("code", "=", "007"),
        "place = New York": Condition("place", "=", "New York"),
        "open=TRUE": Condition("open", "=", True),
        "split=2020": Condition("split", "=", "2020"),
        "place in Oslo, 'a, b' ,3": Condition("place", "in", ("Oslo", "a, b", 3)),
        "a=b<c": Condition("a", "=", "b<c"),
        "name=x' OR '1'='1": Condition("name", "=", "x' OR '1'='1"),
        "n=1_000": Condition("n", "=", "1_000"),
        "n=inf": Condition("n", "=", "inf"),
        "attributes.split=1": Condition("attributes.split", "=", 1),
    }
    assert parse(forms) == tuple(forms.values())
    assert parse(["attributes.split=1"])[0].attribute == "split"
    for wrong in ("", "year", "=3", "year =~ 3 and more"[:4], "in a,b"):
        with pytest.raises(UserError, match="is no condition"):
            parse([wrong])
    for value in (math.nan, math.inf):
        with pytest.raises(UserError, match="cannot be compared"):
            Condition("year", "<", value)


class Items:
    """Sixty items with attributes of all sorts, in a real table with its indexes; vectors are random."""

    def __init__(self, folder: Path) -> None:
        draw = np.random.default_rng(0)
        count, dim = 60, 8
        vectors = draw.normal(size=(count, dim)).astype(np.float32)
        self.vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        self.keys = [f"{number:032x}" for number in draw.permutation(count)]
        self.attributes: list[dict[str, Any]] = []
        for number in range(count):
            chosen = {name: draw.choice(len(NASTY)) for name in NAMES if draw.random() < 0.7}
            mixed: list[Any] = [*NASTY, number % 7, 0.5 * number, bool(number % 2)]
            self.attributes.append({name: mixed[int(place) + number % 3] for name, place in chosen.items()})
        self.rows = [
            {"split": ("train", "val")[number % 2], "collection": NASTY[number % 4], "text": f"a dog {number % 5}"}
            for number in range(count)
        ]
        self.store = Store(folder)
        self.store.upsert("space", schema := schemas.space(dim, ("image", "text"), "s"), self._table(schema))
        build_full_text(self.store, "space")
        self.index = build_index(self.store, "space", [], kind="exact")

    def _table(self, schema: pa.Schema) -> pa.Table:
        blank = pa.array([""] * len(self.keys))
        columns: dict[str, Any] = {name: pa.array([row[name] for row in self.rows]) for name in self.rows[0]}
        columns |= {
            "key": pa.array(self.keys),
            "modality": pa.array(["image"] * len(self.keys)),
            "attributes": pa.array([json.dumps(one, sort_keys=True, ensure_ascii=False) for one in self.attributes]),
            "vector": vector_column(self.vectors),
            "bits": bits_column(self.vectors),
        }
        columns |= {f"hubness_{name}": pa.array(np.zeros(len(self.keys), np.float32)) for name in ("image", "text")}
        return pa.table([columns.get(field.name, blank) for field in schema], schema=schema)

    def fulfil(self, where: tuple[Condition, ...]) -> set[int]:
        """The numbers of the items that fulfil all conditions, by plain Python."""
        return {
            number
            for number, (row, attributes) in enumerate(zip(self.rows, self.attributes, strict=True))
            if all(
                (one.name in FIELDS and plainly(row[one.name], one.operator, one.value))
                or (one.attribute in attributes and plainly(attributes[one.attribute], one.operator, one.value))
                for one in where
            )
        }


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> Items:
    """They are read only."""
    return Items(tmp_path_factory.mktemp("items"))


TEXTS = st.sampled_from(NASTY)
HOW = st.sampled_from(list(COMPARES))
ON_FIELD = st.builds(Condition, st.sampled_from(["split", "collection"]), HOW, TEXTS | st.just("val"))
ON_ATTRIBUTE = st.builds(Condition, st.sampled_from(NAMES), HOW, SCALARS)
SEVERAL = st.builds(
    lambda name, values: Condition(name, "in", tuple(values)),
    st.sampled_from([*NAMES, "collection"]),
    st.lists(TEXTS, max_size=3),
)


@pytest.mark.parametrize("held", [True, False], ids=["in memory", "by LanceDB"])
@pytest.mark.parametrize("few", [2_000, 3], ids=["few", "many"])
@settings(max_examples=40)
@given(where=st.lists(ON_FIELD | ON_ATTRIBUTE | SEVERAL, max_size=3).map(tuple), k=st.integers(1, 70))
def test_searches_agree_with_python(items: Items, held: bool, few: int, where: tuple[Condition, ...], k: int) -> None:  # noqa: FBT001
    """Whatever the conditions, injection strings among them, a search by vector gives the nearest `k` of the items that
    fulfil them, and one by words those of them with the words: in memory and by LanceDB, as list of keys and by more
    rows than needed.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(narrowing, "FEW", few)
        patch.setattr(galleries, "HELD", 2**28 if held else 0)
        searched = Galleries(items.store, "space", items.store.version("space"), items.index, ("image", "text"))
        narrowed = searched.narrowed("image", where)
        query = items.vectors[:2]
        found = searched.nearest(query, "image", k, narrowed)
        words = searched.words("dog", k, narrowed)
    expected = items.fulfil(where)
    for row, one in enumerate(found):
        best = sorted(expected, key=lambda number: -float(items.vectors[number] @ query[row]))[:k]
        assert one.keys == [items.keys[number] for number in best]
        assert one.cosines == pytest.approx([float(items.vectors[number] @ query[row]) for number in best], abs=1e-5)
    assert len(words) == min(k, len(expected))
    assert set(words) <= {items.keys[number] for number in expected}


def test_an_unknown_attribute_is_named(items: Items) -> None:
    """What no item has is an error that lists the attributes and fields; what no item fulfils is none."""
    searched = Galleries(items.store, "space", items.store.version("space"), items.index, ("image", "text"))
    with pytest.raises(UserError, match="no item has an attribute 'yaer'") as error:
        searched.narrowed("image", parse(["yaer=3"]))
    assert "year" in error.value.mend
    assert "collection" in error.value.mend
    for nothing in ("year=98765", "split=none"):
        narrowed = searched.narrowed("image", parse([nothing]))
        assert searched.nearest(items.vectors[:1], "image", 5, narrowed)[0].keys == []
        assert searched.words("dog", 5, narrowed) == []


def test_a_filter_of_code_stays_as_it_is() -> None:
    """A filter on columns stays what it is; conditions on fields become one, those on attributes do not."""
    assert split(eq("split", "val")) == (eq("split", "val"), ())
    columns, checks = split(parse(["split=it's", "year=3"]))
    assert columns == eq("split", "it's")
    assert checks == parse(["year=3"])
    assert split(()) == (None, ())

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from storage.filters import eq
from storage.marks import latest, recall, remember, remembered
from storage.tables import Store
from tests.storage.rows import PUBLISHED, names


class Count(BaseModel):
    rows: int


class Step:
    """A step that counts the rows of a table, and how often it was asked to."""

    def __init__(self, store: Store, table: str = "published") -> None:
        self.store, self.table, self.done = store, table, 0

    def __call__(self) -> Count:
        self.done += 1
        return Count(rows=self.store.count(self.table))

    def ask(self, inputs: str = "a", *, anew: bool = False) -> int:
        """The count, computed or remembered."""
        return remembered(self.store, "count", [self.table], inputs, Count, self, anew=anew).rows


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A database with one row in the table `published`."""
    made = Store(tmp_path / "tables")
    made.upsert("published", PUBLISHED, names(["x"]))
    return made


def test_a_step_is_done_once_for_a_state(store: Store) -> None:
    """Asked again with the same inputs and tables it gives what it gave and is not computed; `anew` computes."""
    step = Step(store)
    assert [step.ask(), step.ask(), step.ask()] == [1, 1, 1]
    assert step.done == 1
    step.ask(anew=True)
    assert step.done == 2


def test_other_inputs_or_rows_compute(store: Store) -> None:
    """Other inputs, a new row, a changed row and a deleted row each compute again; going back to old inputs as well."""
    step = Step(store)
    step.ask()
    step.ask("b")
    step.ask("a")
    assert step.done == 3
    store.upsert("published", PUBLISHED, names(["y"]))
    assert step.ask() == 2
    store.upsert("published", PUBLISHED, names(["y"], manifest="{1}"))
    step.ask()
    store.delete("published", eq("name", "y"))
    assert step.ask() == 1
    assert step.done == 6


def test_a_table_made_anew_is_another_state(store: Store) -> None:
    """A table dropped and made again, with the same number of versions and rows, is not taken for the former one."""
    step = Step(store)
    step.ask()
    version = store.version("published")
    store.drop("published")
    store.upsert("published", PUBLISHED, names(["x"]))
    assert store.version("published") == version
    step.ask()
    assert step.done == 2


def test_a_step_may_write_to_its_tables(store: Store) -> None:
    """A step that writes to the tables that it depends on is done after it, and not done again for its own writes."""
    done = 0

    def fill() -> Count:
        nonlocal done
        done += 1
        store.upsert("published", PUBLISHED, names(["filled"]))
        return Count(rows=store.count("published"))

    for _ in range(3):
        assert remembered(store, "fill", ["published"], "", Count, fill).rows == 2
    assert done == 1


def test_a_step_that_fails_is_not_remembered(store: Store) -> None:
    """What raises leaves no mark, and the mark of the time before only for the state of the time before."""
    step = Step(store)
    step.ask()
    store.upsert("published", PUBLISHED, names(["y"]))

    def fail() -> Count:
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        remembered(store, "count", ["published"], "a", Count, fail)
    assert step.ask() == 2
    assert step.done == 2


def test_recall_asks_for_a_state_latest_does_not(store: Store) -> None:
    """`recall` gives a result for its very state alone, `latest` the last one; a name that is not known gives None."""
    assert latest(store, "count", Count) is None
    assert recall(store, "count", "s", Count) is None
    remember(store, "count", "s", Count(rows=1))
    remember(store, "count", "t", Count(rows=2))
    assert recall(store, "count", "s", Count) is None
    assert recall(store, "count", "t", Count) == latest(store, "count", Count) == Count(rows=2)
    assert latest(store, "other", Count) is None


@settings(max_examples=15, deadline=None)
@given(st.lists(st.sampled_from(["ask a", "ask b", "write", "delete", "anew"]), max_size=12))
def test_any_history_gives_the_truth(tmp_path_factory: pytest.TempPathFactory, history: list[str]) -> None:
    """Whatever is asked and changed in whatever order, the answer is the count as it is; nothing is computed twice."""
    store = Store(tmp_path_factory.mktemp("marks"))
    step = Step(store)
    rows: dict[str, None] = {}
    changes, wanted, known = 0, 0, None
    for number, what in enumerate(history):
        if what == "write":
            store.upsert("published", PUBLISHED, names([f"{number}"]))
            rows[f"{number}"] = None
            changes += 1
        elif what == "delete":
            if rows:
                gone = next(iter(rows))
                store.delete("published", eq("name", gone))
                del rows[gone]
                changes += 1
        else:
            inputs = what[-1]
            anew = what == "anew"
            assert step.ask(inputs, anew=anew) == len(rows)
            wanted += anew or known != (inputs, changes)
            known = (inputs, changes)
    assert step.done == wanted

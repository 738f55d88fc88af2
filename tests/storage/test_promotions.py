from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage import schemas
from storage.errors import StorageError
from storage.maintenance import tagged
from storage.promotions import Manifest, history, manifest_of, record, roll_back, stack, was_rolled_back
from storage.spaces import publish
from storage.tables import Store
from tests.storage.rows import PUBLISHED, names


class CutError(Exception):
    """Stands for a kill."""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A database without tables."""
    return Store(tmp_path / "tables")


def made(space: str, number: int = 0) -> Manifest:
    """A manifest of a space, as it stands after `number` updates."""
    return {"space": {"space_id": space}, "number": number, "naïve": [1.5, None]}


def promote(store: Store, space: str, number: int = 0) -> None:
    """Put a space in force under `photos`."""
    record(store, "photos", "promoted", space, "why", {"rsum": 1.5}, made(space, number))


def ids(manifests: list[Manifest]) -> list[str]:
    """Of spaces."""
    return [one["space"]["space_id"] for one in manifests]


def test_a_promotion_is_recorded_and_published(store: Store) -> None:
    """An entry holds what was decided, why, when, and both manifests; the name points to the new one."""
    start = datetime.now(UTC)
    promote(store, "a")
    promote(store, "b", 3)
    first, second = history(store, "photos")
    assert (first.number, first.event, first.space_id, first.reason, first.figures) == (
        1, "promoted", "a", "why", {"rsum": 1.5},
    )  # fmt: skip
    assert (first.manifest, first.before) == (made("a"), None)
    assert (second.number, second.manifest, second.before) == (2, made("b", 3), made("a"))
    assert start <= first.at <= second.at <= datetime.now(UTC)
    assert manifest_of(store, "photos") == made("b", 3)


def test_a_refusal_is_recorded_and_changes_nothing(store: Store) -> None:
    """A refused space stands in the history; what is in force, and what a roll-back reaches, stays."""
    promote(store, "a")
    record(store, "photos", "refused", "b", "worse", {}, made("b"))
    assert [entry.event for entry in history(store, "photos")] == ["promoted", "refused"]
    assert stack(store, "photos") == [made("a")]


def test_names_have_histories_of_their_own(store: Store) -> None:
    """Entries of one name are numbered and stacked apart from those of another; all together come by name."""
    promote(store, "a")
    record(store, "music", "promoted", "m", "first", {}, made("m"))
    promote(store, "b")
    assert [(entry.name, entry.number, entry.space_id) for entry in history(store)] == [
        ("music", 1, "m"),
        ("photos", 1, "a"),
        ("photos", 2, "b"),
    ]
    assert ids(stack(store, "music")) == ["m"]
    with pytest.raises(StorageError, match="before the one in force under 'music'"):
        roll_back(store, "music", "why")


def test_a_roll_back_restores_the_manifest_exactly(store: Store) -> None:
    """What comes back is the manifest that was in force when it was replaced, updates since its promotion included."""
    promote(store, "a")
    publish(store, "photos", made("a", 7))
    promote(store, "b")
    publish(store, "photos", made("b", 8))
    assert roll_back(store, "photos", "misses logos") == made("a", 7)
    assert manifest_of(store, "photos") == made("a", 7)
    last = history(store, "photos")[-1]
    assert (last.event, last.space_id, last.reason) == ("rolled back", "a", "misses logos")
    assert (last.manifest, last.before) == (made("a", 7), made("b", 8))


def test_a_roll_back_needs_something_to_go_back_to(store: Store) -> None:
    """Where nothing is published, or nothing before it, the name is said and nothing is changed."""
    with pytest.raises(StorageError, match="no space is published under 'photos'"):
        roll_back(store, "photos", "why")
    promote(store, "a")
    promote(store, "b")
    roll_back(store, "photos", "why")
    with pytest.raises(StorageError, match="no space before the one in force under 'photos'"):
        roll_back(store, "photos", "why")
    assert manifest_of(store, "photos") == made("a")
    assert len(history(store, "photos")) == 3


def test_promote_roll_back_promote(store: Store) -> None:
    """What was rolled back is not gone back to: a, b, back to a, c leaves a under c."""
    for space in "ab":
        promote(store, space)
    roll_back(store, "photos", "why")
    promote(store, "c")
    assert ids(stack(store, "photos")) == ["a", "c"]
    promote(store, "b")
    assert ids(stack(store, "photos")) == ["a", "c", "b"]


def test_what_a_person_rolled_back_is_known(store: Store) -> None:
    """A space counts as rolled back from the roll-back on, until it is promoted again; others never do."""
    for space in "ab":
        promote(store, space)
    assert not was_rolled_back(store, "photos", "b")
    roll_back(store, "photos", "why")
    assert was_rolled_back(store, "photos", "b")
    assert not was_rolled_back(store, "photos", "a")
    assert not was_rolled_back(store, "music", "b")
    promote(store, "b")
    assert not was_rolled_back(store, "photos", "b")


def test_what_is_published_is_tagged(store: Store) -> None:
    """The table version that a manifest names bears the tag that keeps clean-up from it."""
    store.upsert("space_photos", PUBLISHED, names(["x"]))
    version = store.version("space_photos")
    store.upsert("space_photos", PUBLISHED, names(["y"]))
    manifest = made("a") | {"index": {"table": "space_photos", "version": version}}
    record(store, "photos", "promoted", "a", "first", {}, manifest)
    assert tagged(store, "space_photos") == [version]


def test_entries_are_appended_never_changed(store: Store) -> None:
    """The rows of earlier entries stay byte for byte, whatever comes after them."""
    columns = schemas.promotions().names
    promote(store, "a")
    promote(store, "b")
    before = {row["key"]: row for row in store.read(schemas.PROMOTIONS, columns).to_pylist()}
    roll_back(store, "photos", "why")
    record(store, "photos", "refused", "c", "worse", {}, made("c"))
    after = {row["key"]: row for row in store.read(schemas.PROMOTIONS, columns).to_pylist()}
    assert len(after) == 4
    assert {key: after[key] for key in before} == before


class Model:
    """What a name should do, on a plain list."""

    def __init__(self) -> None:
        self.line: list[Manifest] = []
        self.count = 0

    def promote(self, manifest: Manifest) -> None:
        if self.line and self.line[-1]["space"] == manifest["space"]:
            self.line[-1] = manifest
        else:
            self.line.append(manifest)

    def update(self, manifest: Manifest) -> None:
        self.line[-1] = manifest

    def roll_back(self) -> Manifest:
        self.line.pop()
        return self.line[-1]


STEPS = st.one_of(
    st.tuples(st.sampled_from(["promote", "refuse", "promote, cut off"]), st.sampled_from("abcd")),
    st.tuples(st.sampled_from(["update", "roll back", "roll back, cut off"]), st.just("")),
)


@settings(max_examples=30, deadline=None)
@given(st.lists(STEPS, max_size=14))
def test_any_history_is_a_stack(tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str]]) -> None:
    """After any promotions, refusals, updates, roll-backs, and ones cut off between entry and publication, what is in
    force and what lies under it is what a plain list says.
    """
    store, model = Store(tmp_path_factory.mktemp("promotions")), Model()
    for number, (what, space) in enumerate(steps):
        manifest = made(space, number)
        if what == "promote":
            record(store, "photos", "promoted", space, what, {}, manifest)
            model.promote(manifest)
        elif what == "refuse":
            record(store, "photos", "refused", space, what, {}, manifest)
        elif what == "update" and model.line:
            manifest = made(model.line[-1]["space"]["space_id"], number)
            publish(store, "photos", manifest)
            model.update(manifest)
        elif what == "roll back" and len(model.line) > 1:
            assert roll_back(store, "photos", what) == model.roll_back()
        elif what == "promote, cut off":
            cut_off(record, store, "photos", "promoted", space, what, {}, manifest)
        elif what == "roll back, cut off" and len(model.line) > 1:
            cut_off(roll_back, store, "photos", what)
        assert stack(store, "photos") == model.line
        assert manifest_of(store, "photos") == (model.line[-1] if model.line else None)
    numbers = [entry.number for entry in history(store, "photos")]
    assert numbers == list(range(1, len(numbers) + 1))


def cut_off(call: Any, *args: Any) -> None:
    """Call what is killed before it publishes."""

    def die(*_: Any) -> None:
        raise CutError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("storage.promotions.publish", die)
        with pytest.raises(CutError):
            call(*args)


def test_manifests_survive_as_they_are(store: Store) -> None:
    """Nested values, nulls, floats and letters of any script come back equal."""
    manifest = made("a") | {"words": "猫 'quoted' \\", "deep": {"x": [1, 2.5e-8, None, True]}}
    record(store, "photos", "promoted", "a", "'; DROP", {"low": -0.25}, manifest)
    (entry,) = history(store, "photos")
    assert entry.manifest == manifest_of(store, "photos") == json.loads(json.dumps(manifest))
    assert (entry.reason, entry.figures) == ("'; DROP", {"low": -0.25})

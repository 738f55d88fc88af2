from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from storage import catalog, schemas
from storage.filters import eq
from storage.tables import Store
from storage.workspace import Workspace
from tasks.grouping import group_collection
from tasks.media.registry import Limits
from tasks.refs import GroupReport
from tasks.sources.groups import HELD_OUT
from tasks.sources.item import BUCKETS, MediaRef, Row, TextRef
from tasks.sources.records import examine, prepare, stage
from tests.tasks.media.test_image import saved, scene

PICTURE = saved(scene(), "PNG")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A database without tables."""
    return Store(tmp_path / "tables")


def reading(file: str) -> bytes:
    """The bytes of a file: files have one content if their names agree up to a tilde ("a.png", "a~copy.png")."""
    return PICTURE + file.removesuffix(".png").split("~")[0].encode()


def row(
    key: str, files: Sequence[str] = (), texts: Sequence[str] = (), split: str | None = None, group: str | None = None
) -> Row:
    """A row of a collection of pictures and captions."""
    media = tuple(MediaRef(file, file, "image") for file in files)
    return Row(key, f"{key}:1", media, tuple(TextRef("caption", text) for text in texts), split, group)


def write(store: Store, rows: Iterable[Row], collection: str = "c") -> None:
    """Write the rows as preprocessing does; they are all there is of the collection."""
    staged = [(kind, record) for one in rows for _, kind, record in stage(one, lexical=(), stat=lambda file: (1, 1))]
    done = prepare(staged, collection=collection, look=lambda one: examine(one, reading, Limits()), limits=Limits())
    assert not done.faults
    catalog.replace_rows(store, collection, range(BUCKETS), done.items, done.pairs)


def grouped(store: Store, *, seed: int = 0, share: float = 0.2, collection: str = "c") -> GroupReport:
    """Group a collection with a default seed and share."""
    workspace = Workspace(root=Path(store.uri).parent)
    return group_collection(workspace, collection, seed=seed, share=share)


def items(store: Store, collection: str = "c") -> list[dict[str, Any]]:
    """All items of a collection, by key."""
    columns = ["key", "row_key", "uri", "text", "group", "split"]
    return sorted(store.read(schemas.ITEMS, columns, eq("collection", collection)).to_pylist(), key=lambda r: r["key"])


def named(store: Store, column: str) -> dict[str, set[str]]:
    """The values of `column` of each medium (by file) and each text (by its words)."""
    out: defaultdict[str, set[str]] = defaultdict(set)
    for item in items(store):
        out[item["uri"] or item["text"]].add(item[column])
    return dict(out)


def random_rows(seed: int, count: int = 40) -> list[Row]:
    """Rows that share files, contents and group names here and there, with splits that contradict each other."""
    draw = random.Random(seed)
    return [
        row(
            f"r{number:03}",
            [f"{draw.randrange(60)}{draw.choice(['', '~x', '~y'])}.png" for _ in range(draw.choice([0, 1, 1, 2]))],
            [f"{number} {place}" for place in range(draw.choice([1, 2]))] + ["the same words"],
            draw.choice([None, "train", "train", "val", "test"]),
            draw.choice([None, None, None, None, f"g{draw.randrange(8)}"]),
        )
        for number in range(count)
    ]


def plain_groups(rows: Sequence[Row]) -> list[set[str]]:
    """The groups of rows by joining, over and over, what shares a content or a group name."""
    groups: list[tuple[set[str], set[str]]] = []
    for one in rows:
        marks = {f"content {ref.file.removesuffix('.png').split('~')[0]}" for ref in one.media}
        marks |= {f"group {one.group}"} if one.group else set()
        keys = {one.row_key}
        apart = []
        for other_keys, other_marks in groups:
            if other_marks & marks:
                keys, marks = keys | other_keys, marks | other_marks
            else:
                apart.append((other_keys, other_marks))
        groups = [*apart, (keys, marks)]
    return [keys for keys, _ in groups]


def test_rows_that_share_a_medium_are_one_group(store: Store) -> None:
    """One path, equal contents under other names, and a group name join rows, from row to row; equal texts do not."""
    rows = [
        row("r1", ["a.png"], ["one"]),
        row("r2", ["a.png", "b.png"], ["two"]),
        row("r3", ["b~copy.png"], ["three"], group="g"),
        row("r4", ["c.png"], ["four"], group="g"),
        row("r5", ["d.png"], ["one"]),
        row("r6", [], ["six"]),
    ]
    write(store, rows)
    assert grouped(store).groups == 3
    group = named(store, "group")
    (whole,) = group["a.png"]
    assert all(group[name] == {whole} for name in ("b.png", "b~copy.png", "c.png", "two", "three", "four"))
    assert group["one"] == {whole} | group["d.png"]
    assert len({whole} | group["d.png"] | group["six"]) == 3


@pytest.mark.parametrize("seed", range(4))
def test_groups_and_splits_are_those_of_plain_search(store: Store, seed: int) -> None:
    """In tangled collections the groups are what joining rows over and over finds, and each has its strictest split.

    All items of a group are in one split: test if a member says so, else val, else train; so no group is cut.
    """
    rows = random_rows(seed)
    write(store, rows)
    report = grouped(store)
    expected = plain_groups(rows)
    found: defaultdict[str, set[str]] = defaultdict(set)
    splits: defaultdict[str, set[str]] = defaultdict(set)
    for item in items(store):
        found[item["group"]].add(item["row_key"])
        splits[item["group"]].add(item["split"])
    assert sorted(map(sorted, found.values())) == sorted(map(sorted, expected))
    assert report.groups == len(expected)
    declared = {one.row_key: one.split for one in rows}
    for group, keys in found.items():
        said = {declared[key] for key in keys}
        assert splits[group] == {"test" if "test" in said else "val" if "val" in said else "train"}
    counts = store.strings(schemas.ITEMS, "split")
    assert report.splits == {name: counts.count(name) for name in set(counts)}
    moved = [item for item in items(store) if declared[item["row_key"]] not in (None, item["split"])]
    assert report.moved == len(moved)
    assert not report.drawn


def test_a_second_call_writes_nothing(store: Store) -> None:
    """Grouping again gives the same report and no new version of the table; a new row changes its own items alone."""
    rows = random_rows(1)
    write(store, rows)
    first = grouped(store)
    version, before = store.version(schemas.ITEMS), items(store)
    assert grouped(store) == first
    assert store.version(schemas.ITEMS) == version
    write(store, [*rows, row("s", ["new.png"], ["new"])])
    assert grouped(store).digest != first.digest
    after = [item for item in items(store) if item["row_key"] != "s"]
    assert after == before


def test_the_order_of_insertion_does_not_matter(tmp_path: Path) -> None:
    """Rows in any order, in one write or in growing ones, give the same groups, splits and report."""
    rows = random_rows(2)
    stores = [Store(tmp_path / name / "tables") for name in ("sorted", "mixed", "grown")]
    write(stores[0], rows)
    write(stores[1], random.Random(0).sample(rows, len(rows)))
    for count in (10, 25, 40):
        write(stores[2], rows[::-1][:count])
        last = grouped(stores[2])
    assert grouped(stores[0]) == grouped(stores[1]) == last
    assert items(stores[0]) == items(stores[1]) == items(stores[2])


@pytest.mark.parametrize("split", [None, "train", "other"])
def test_a_split_is_drawn_where_none_is_declared(store: Store, split: str | None) -> None:
    """Without a declared test or val about the asked share of groups is held out, by seed, and no group is cut."""
    write(store, [row(f"r{n}", [f"{n}.png", f"{n}~b.png"], [f"{n}"], split) for n in range(400)])
    report = grouped(store, share=0.25)
    assert (report.drawn, report.moved, report.groups, report.media_leaks) == (True, 0, 400, 0)
    assert set(report.splits) == {"train", HELD_OUT}
    assert abs(report.splits[HELD_OUT] / 1_200 - 0.25) < 4 * (0.25 * 0.75 / 400) ** 0.5
    held = {item["row_key"] for item in items(store) if item["split"] == HELD_OUT}
    assert not held & {item["row_key"] for item in items(store) if item["split"] == "train"}
    grouped(store, share=0.25, seed=1)
    assert held != {item["row_key"] for item in items(store) if item["split"] == HELD_OUT}


def test_drawn_splits_stay_when_rows_are_added(store: Store) -> None:
    """New groups, of lesser and greater row keys, move no item that was there to another split or group."""
    rows = [row(f"m{n:03}", [f"{n}.png"], [f"{n}"]) for n in range(60)]
    write(store, rows)
    grouped(store)
    before = {item["key"]: (item["group"], item["split"]) for item in items(store)}
    more = [row(f"{letter}{n}", [f"{letter}{n}.png"], [f"{letter}{n}"]) for letter in "az" for n in range(30)]
    write(store, [*more, *rows])
    grouped(store)
    after = {item["key"]: (item["group"], item["split"]) for item in items(store)}
    assert {key: after[key] for key in before} == before
    assert len(after) == 240


def test_leaks_are_reported(store: Store) -> None:
    """A content under two names in two splits is a leak with its places and splits; a text in two splits is counted.

    The leak is mended: both copies are in the stricter split, and what was declared otherwise counts as moved.
    """
    rows = [
        row("r1", ["a.png"], ["one"], "train"),
        row("r2", ["a~copy.png"], ["two"], "test"),
        row("r3", ["b.png"], ["said twice"], "train"),
        row("r4", ["c.png"], ["said twice"], "val"),
        row("r5", ["d.png"], ["five"], "train"),
        row("r6", ["d~copy.png"], ["six"], "train"),
    ]
    write(store, rows)
    report = grouped(store)
    assert (report.media_leaks, report.text_leaks, report.moved) == (1, 1, 2)
    (leak,) = report.examples
    assert (leak.modality, leak.splits, leak.examples) == ("image", ("test", "train"), ("a.png", "a~copy.png"))
    split = named(store, "split")
    assert split["a.png"] == split["a~copy.png"] == split["one"] == {"test"}
    assert split["said twice"] == {"train", "val"}


def test_many_leaks_are_counted_and_a_few_named(store: Store) -> None:
    """All leaks are counted, and at most twenty are named, the same ones each time."""
    sides = (("train", ""), ("test", "~copy"))
    write(store, [row(f"{side}{n}", [f"{n}{mark}.png"], split=side) for n in range(30) for side, mark in sides])
    report = grouped(store)
    assert (report.media_leaks, len(report.examples), report.moved) == (30, 20, 30)
    assert report.examples == grouped(store).examples


def test_collections_are_grouped_apart(store: Store) -> None:
    """Grouping a collection neither reads nor writes another one, and equal row keys give groups of other names."""
    write(store, [row("r1", ["a.png"], ["one"], "test")])
    write(store, [row("r1", ["a.png"], ["one"])], "other")
    assert grouped(store).splits == {"test": 2}
    assert {item["group"] for item in items(store, "other")} == {""}
    assert grouped(store, collection="other", share=0.0).splits == {"train": 2}
    assert not {item["group"] for item in items(store)} & {item["group"] for item in items(store, "other")}


def test_an_empty_collection_has_no_groups(store: Store) -> None:
    """Without tables, and without items, there is an empty report and nothing is written."""
    assert grouped(store).groups == 0
    write(store, [row("r1", ["a.png"])], "other")
    version = store.version(schemas.ITEMS)
    assert (grouped(store).groups, grouped(store).splits) == (0, {})
    assert store.version(schemas.ITEMS) == version


def test_one_path_in_two_splits_is_a_leak(store: Store) -> None:
    """A file that a train row and a test row mention by the same path is reported, though it is one item."""
    write(
        store,
        [row("r1", ["a.png"], ["one"], "train"), row("r2", ["a.png"], ["two"], "test"), row("r3", ["b.png"], ["x"])],
    )
    report = grouped(store)
    assert (report.media_leaks, report.text_leaks) == (1, 0)
    assert report.examples[0].splits == ("test", "train")
    assert report.examples[0].examples == ("a.png",)


def test_a_declared_heldout_counts(store: Store) -> None:
    """A split that the data calls heldout is kept, and none is drawn beside it."""
    write(store, [row(f"r{n}", [f"{n}.png"], [f"{n}"], HELD_OUT if n < 3 else "train") for n in range(30)])
    report = grouped(store)
    assert (report.drawn, report.splits) == (False, {HELD_OUT: 6, "train": 54})

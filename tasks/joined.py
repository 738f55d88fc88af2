"""The items of a collection as numbers, and which of them belong together; what tells so lies on disk, by its hash."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from storage import schemas
from storage.filters import eq
from storage.packed import packed, part_of, place, words
from storage.scratch import Parted
from storage.workspace import Workspace
from tasks.contents import TEXT
from tasks.sources.groups import Forest, Nodes
from tasks.sources.item import digest

_PART = 32_768  # items that are looked at together, about

_HASH, _NUMBER, _PLACE = pa.string(), pa.int64(), pa.int32()
_ROWS = pa.schema({"row": _HASH, "number": _NUMBER, "split": _PLACE})
_SHARED = pa.schema({"what": _HASH, "number": _NUMBER})
_KEYS = pa.schema({"key": _HASH, "number": _NUMBER, "content": _HASH, "modality": _PLACE, "split": _PLACE})
_ENDS = pa.schema({"key": _HASH, "number": _NUMBER})

Places = npt.NDArray[np.integer[Any]]


class JoinedItems:
    """`count` items, numbered as their table is scanned, joined by row, given pair, content of a medium and group name.

    Each given pair has two ends, 2·i and 2·i + 1. Modalities and declared splits are few: items have their places in
    `modalities` and `splits`, -1 for none. In memory are four bytes an item and pair, and a part of what lies on disk.
    """

    def __init__(self, workspace: Workspace, collection: str) -> None:
        self.store, self._root, self._collection = workspace.store, workspace.root, collection
        self.here = eq("collection", collection)
        self._given = self.here & eq("source", "given")
        self.count = self.store.count(schemas.ITEMS, self.here)
        self.pairs = self.store.count(schemas.PAIRS, self._given)
        self.parts = max(-(-self.count // _PART), 1)
        self.modalities, self.splits = {TEXT: 0}, dict[str, int]()
        self.pairs_sum = np.zeros(2, np.uint64)
        self._forest = Forest(self.count + self.pairs)

    def __enter__(self) -> Self:
        self._aside = ExitStack()
        self._rows, self._shared, self._keys, self._ends = map(self.aside, (_ROWS, _SHARED, _KEYS, _ENDS))
        if self.count:
            self._read_items()
            self._read_pairs()
            self._join()
        return self

    def __exit__(self, *_: object) -> None:
        self._aside.close()

    def _read_items(self) -> None:
        columns = ("key", "content_hash", "modality", "declared_split", "row_key", "declared_group")
        for number, batch in self.scan(*columns):
            key, content, modality, split, row_key, group = batch.columns
            kind, said = _places(modality, self.modalities), _places(split, self.splits)
            row, named = hashed(row_key, "group", self._collection), hashed(group.drop_null(), "named")
            known = {"key": key, "number": number, "content": content, "modality": kind, "split": said}
            self._keys.add(self.part_of(key), known)
            self._rows.add(self.part_of(row), {"row": row, "number": number, "split": said})
            media = kind != self.modalities[TEXT]
            what = pa.concat_arrays([content.filter(pa.array(media)), named])
            those = np.concatenate([number[media], number[group.is_valid().to_numpy(zero_copy_only=False)]])
            self._shared.add(self.part_of(what), {"what": what, "number": those})

    def _read_pairs(self) -> None:
        done = 0
        for batch in self.store.stream(schemas.PAIRS, ["key", "left", "right"], self._given):
            self.pairs_sum += words(packed(batch.column(0))).reshape(-1, 2).sum(0)
            number = 2 * np.arange(done, done + len(batch))
            for side, key in enumerate(batch.columns[1:]):
                self._ends.add(self.part_of(key), {"key": key, "number": number + side})
            done += len(batch)

    def _join(self) -> None:
        for aside, column in ((self._rows, "row"), (self._shared, "what")):
            for batch in aside:
                what, number = packed(batch[column]), batch["number"].to_numpy()
                order = np.argsort(what, kind="stable")
                same = what[order][1:] == what[order][:-1]
                self._forest.join(number[order][1:][same], number[order][:-1][same])
        for known, ends, at in self.by_key():
            self._forest.join(known["number"].to_numpy()[at], self.count + ends // 2)

    def aside(self, schema: pa.Schema) -> Parted:
        """Room on disk for more rows, in as many parts, until the block ends."""
        return self._aside.enter_context(Parted(self._root, schema, self.parts))

    def part_of(self, hashes: pa.StringArray) -> Places:
        """The parts of hashes (n,), which are in the order of the hashes."""
        return part_of(hashes, self.parts)

    def scan(self, *columns: str) -> Iterator[tuple[Nodes, pa.RecordBatch]]:
        """Numbers of items, and some of their columns."""
        done = 0
        for batch in self.store.scan(schemas.ITEMS, columns, self.here):
            yield np.arange(done, done + len(batch)), batch
            done += len(batch)

    def by_row(self) -> Iterator[pa.RecordBatch]:
        """Hash of the row, number and declared split of the items, in which those of a row stand together."""
        return iter(self._rows)

    def by_key(self) -> Iterator[tuple[pa.RecordBatch, Nodes, Nodes]]:
        """Key, number, content, modality and declared split of the items, sorted by key.

        Beside them the ends of pairs that are such an item, and its place there.
        """
        for items, ends in zip(self._keys, self._ends, strict=True):
            known = items.take(pa.array(np.argsort(packed(items["key"]), kind="stable")))
            at = place(packed(known["key"]), packed(ends["key"]))
            yield known, ends["number"].to_numpy()[at >= 0], at[at >= 0]

    def roots(self, numbers: Nodes) -> Nodes:
        """For items (n,) the smallest number of those that belong together with each."""
        return self._forest.roots(numbers)

    def groups(self) -> Iterator[Nodes]:
        """The numbers that are such smallest ones, in their order."""
        for start in range(0, self.count, _PART):
            numbers = np.arange(start, min(start + _PART, self.count))
            yield numbers[self.roots(numbers) == numbers]


def hashed(column: pa.StringArray, *before: str) -> pa.StringArray:
    """Digests of strings, each behind those that stand `before` all."""
    coded = column.dictionary_encode()
    made = pa.array([digest(*before, one) for one in coded.dictionary.to_pylist()], pa.string())
    return made.take(coded.indices)


def _places(column: pa.StringArray, names: dict[str, int]) -> Places:
    """Names as their places in `names`, which learns those that are new; -1 for none."""
    coded = column.dictionary_encode()
    known = [names.setdefault(name, len(names)) for name in coded.dictionary.to_pylist()]
    places: Places = np.array([*known, -1], np.int32)[coded.indices.fill_null(-1).to_numpy(zero_copy_only=False)]
    return places

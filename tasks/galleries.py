"""The items of a space as they are searched in: held in memory where they are few, else by LanceDB. No Prefect."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from storage.ann import Index
from storage.filters import Filter, eq
from storage.fulltext import full_text_search
from storage.neighbours import count_rows, nearest
from storage.tables import Store, matrix
from tasks.conditions import Condition, Where, split
from tasks.narrowing import Narrowed, matching_keys, narrow
from tasks.retrieval.knn import top_k

if TYPE_CHECKING:
    from lance import LanceDataset
    from lancedb.table import Table

Array = npt.NDArray[np.float32]
K = TypeVar("K")
T = TypeVar("T")

HELD = 256 * 2**20
"""Bytes of vectors that are held at most, where the index is exact: comparing them is then 5 to 10 times as fast."""
_REMEMBERED = 16  # filters


class Found(NamedTuple):
    """The nearest items of a query: keys (n,), cosines (n,), hubness terms by query modality (n,); nearest first."""

    keys: list[str]
    cosines: Array
    terms: dict[str, Array]


class _Held(NamedTuple):
    """All items of a modality: keys (n,), vectors (n, dim), hubness terms by query modality (n,)."""

    keys: npt.NDArray[np.str_]
    vectors: Array
    terms: dict[str, Array]


class Galleries:
    """The items of one version of a space's table, by modality. Several threads may search at once."""

    def __init__(self, store: Store, table: str, version: int, index: Index, modalities: Sequence[str]) -> None:
        self.store, self.name, self.version, self._index = store, table, version, index
        self._modalities = tuple(modalities)
        self._terms = [f"hubness_{name}" for name in modalities]
        self._narrowed: OrderedDict[tuple[Filter, tuple[Condition, ...]], Narrowed] = OrderedDict()
        self._counts: OrderedDict[Filter, int] = OrderedDict()
        self._galleries: OrderedDict[str, _Held] = OrderedDict()
        self._rows: OrderedDict[tuple[str, Narrowed], npt.NDArray[np.int64]] = OrderedDict()
        self._lock = threading.Lock()

    @cached_property
    def table(self) -> Table:
        """The table, opened at its version."""
        return self.store.open(self.name, self.version)

    @cached_property
    def _data(self) -> LanceDataset:
        return self.store.dataset(self.name, self.version)

    def narrowed(self, modality: str, where: Where | None) -> Narrowed:
        """The items of a modality that satisfy `where`. Raises `UserError` for an unknown attribute."""
        columns, checks = split(where)
        gallery = eq("modality", modality) if columns is None else eq("modality", modality) & columns
        return self._once(
            self._narrowed, (gallery, checks), lambda: narrow(self.store, self.name, self.version, gallery, checks)
        )

    def nearest(self, queries: Array, modality: str, k: int, narrowed: Narrowed) -> list[Found]:
        """The `k` items nearest to each query (n, dim) by cosine."""
        if not len(queries):
            return []
        if self._holds:
            return self._by_product(queries, modality, k, narrowed)
        columns = ["key", *self._terms]
        if not narrowed.checks:
            tables = self._ask(queries, k, narrowed.where, columns)
        else:  # one after the other: of each more rows are fetched than are kept
            columns = [*columns, "attributes"]
            tables = [
                narrowed.take(k, lambda n, one=one: self._ask(one[None], n, narrowed.where, columns)[0])  # type: ignore[misc]
                for one in queries
            ]
        return self._found(tables)

    def words(self, text: str, k: int, narrowed: Narrowed) -> list[str]:
        """Keys of the `k` items whose words fit best."""
        columns = ["key", "attributes"] if narrowed.checks else ["key"]
        found = narrowed.take(k, lambda n: full_text_search(self.table, text, n, where=narrowed.where, columns=columns))
        keys: list[str] = found["key"].to_pylist()
        return keys

    def matching(self, narrowed: Narrowed) -> Iterator[list[str]]:
        """The keys of all items that `narrowed` leaves, a batch at a time."""
        return matching_keys(self.store, self.name, self.version, narrowed)

    def _ask(self, queries: Array, k: int, where: Filter, columns: list[str]) -> list[pa.Table]:
        matching = self._once(self._counts, where, lambda: count_rows(self._data, where))
        return nearest(self._data, queries, k, self._index, where=where, columns=columns, matching=matching)

    def _found(self, tables: Sequence[pa.Table]) -> list[Found]:
        rows = pa.concat_tables(tables)
        distance = rows["_distance"].to_numpy() * (1 if self._index.metric == "cosine" else 0.5)  # of unit vectors
        cosines = np.asarray(1 - distance, np.float32)
        terms = {name: rows[column].to_numpy() for name, column in zip(self._modalities, self._terms, strict=True)}
        keys, ends = rows["key"].to_pylist(), np.cumsum([0, *map(len, tables)]).tolist()
        parts = [slice(*pair) for pair in pairwise(ends)]
        return [Found(keys[at], cosines[at], {name: one[at] for name, one in terms.items()}) for at in parts]

    @cached_property
    def _holds(self) -> bool:
        width = self.table.schema.field("vector").type.list_size
        return self._index.kind == "exact" and 4 * width * self.table.count_rows() <= HELD

    def _by_product(self, queries: Array, modality: str, k: int, narrowed: Narrowed) -> list[Found]:
        held = self._once(self._galleries, modality, lambda: self._load(modality))
        cosines = np.asarray(queries @ held.vectors.T, np.float32)
        rows = None
        if narrowed != Narrowed(eq("modality", modality)):
            rows = self._once(self._rows, (modality, narrowed), lambda: self._rows_of(held, narrowed))
            cosines = cosines[:, rows]
        places, _ = top_k(cosines, k)
        places = places if rows is None else rows[places]
        return [_compared(held, at, query) for at, query in zip(places, queries, strict=True)]

    def _load(self, modality: str) -> _Held:
        where = eq("modality", modality)
        count = self.table.count_rows(where.sql)
        keys: list[str] = []
        vectors = np.empty((count, self.table.schema.field("vector").type.list_size), np.float32)
        terms = {name: np.empty(count, np.float32) for name in self._modalities}
        columns = ["key", "vector", *self._terms]
        for batch in self.store.stream(self.name, columns, where, version=self.version):
            at = slice(len(keys), len(keys) + batch.num_rows)
            vectors[at] = matrix(batch.column(1))
            for number, name in enumerate(self._modalities, 2):
                terms[name][at] = batch.column(number).to_numpy()
            keys += batch.column(0).to_pylist()
        order = np.argsort(np.asarray(keys, np.str_))
        return _Held(
            np.asarray(keys, np.str_)[order], vectors[order], {name: one[order] for name, one in terms.items()}
        )

    def _rows_of(self, held: _Held, narrowed: Narrowed) -> npt.NDArray[np.int64]:
        """The rows of what is held that match, in ascending order."""
        keys = [key for some in self.matching(narrowed) for key in some]
        return np.sort(np.searchsorted(held.keys, np.asarray(keys, held.keys.dtype)))

    def _once(self, kept: OrderedDict[K, T], name: K, make: Callable[[], T]) -> T:
        with self._lock:
            if name not in kept:
                kept[name] = make()
                while len(kept) > _REMEMBERED:
                    kept.popitem(last=False)
            kept.move_to_end(name)
            return kept[name]


def _compared(held: _Held, at: npt.NDArray[np.int64], query: Array) -> Found:
    """The rows `at` once more with this query alone: the last bits of a product depend on its company."""
    cosines = held.vectors[at] @ query
    order = np.lexsort((at, -cosines))
    at = at[order]
    return Found(held.keys[at].tolist(), cosines[order], {name: terms[at] for name, terms in held.terms.items()})

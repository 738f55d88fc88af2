"""Where in what lasts: the part of an item that a query means, and items of which but a part is near. No Prefect."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from storage.ann import Index
from storage.filters import Filter, eq, isin
from storage.marks import latest
from storage.neighbours import nearest
from storage.tables import Store, matrix, named, patient
from tasks.parts import moments_table
from tasks.refs import IndexRef

Array = npt.NDArray[np.float32]

_LEAST, _MOST = 50, 12_800  # parts that are fetched: more while they are of too few items
_CHUNK = 2_000  # contents in one IN (…) list


class Moment(NamedTuple):
    """The best part of an item: its score as that of an item (2·cos − r), its cosine, its start in seconds."""

    score: float
    cosine: float
    start: float


class Locator:
    """The parts kept of a space's items, in the joint space. `table` and `version` are those of its items.

    Moments belong to contents: those of an older version's contents that are still there are right for it as well.
    """

    def __init__(self, store: Store, table: str, version: int) -> None:
        self._store, self._items, self._version = store, table, version
        self._table = moments_table(table)

    def has(self, modality: str) -> bool:
        """Whether parts of a modality are kept."""
        return self._store.count(self._table, eq("modality", modality) & eq("number", 0)) > 0

    @cached_property
    def _index(self) -> Index:
        known = latest(self._store, f"index {self._table}", IndexRef)
        exact = Index(
            kind="exact", metric="cosine", partitions=0, query={}, recall=1, target=1, rows=0, seconds=0, tried=[]
        )
        return exact if known is None else known.index

    def items(
        self, vector: Array, query_modality: str, modality: str, k: int, where: Filter | None = None
    ) -> dict[str, Moment]:
        """The nearest parts of at least `k` items that satisfy `where` (if there are as many), by their items' keys."""
        gallery = eq("modality", modality)
        if where is None:
            best = self._nearest(vector, query_modality, gallery, k)
        else:
            best = {}
            for contents in self._contents(gallery & where):
                best |= self._nearest(vector, query_modality, gallery & isin("content_hash", contents), k)
        chosen = sorted(best, key=lambda content: (-best[content].score, content))[:k]
        found: dict[str, Moment] = {}
        for part in _chunks(chosen):
            here = gallery & isin("content_hash", part)
            rows = self._read(["key", "content_hash"], here if where is None else here & where)
            found |= {
                key: best[content]
                for key, content in zip(*(rows[name].to_pylist() for name in rows.column_names), strict=True)
            }
        return found

    def moments(self, vector: Array, query_modality: str, modality: str, contents: Sequence[str]) -> dict[str, Moment]:
        """The best part of each of these contents; they are compared one and all, a batch in memory at a time."""
        best: dict[str, Moment] = {}
        for part in _chunks(sorted(set(contents))):
            best |= self._every(vector, query_modality, eq("modality", modality) & isin("content_hash", part))
        return best

    def _every(self, vector: Array, query_modality: str, where: Filter) -> dict[str, Moment]:
        best: dict[str, Moment] = {}
        for batch in self._store.stream(self._table, _columns(query_modality), where):
            _fold(best, pa.Table.from_batches([batch]), vector)
        return best

    def _nearest(self, vector: Array, query_modality: str, where: Filter, k: int) -> dict[str, Moment]:
        if self._index.kind == "exact":
            return self._every(vector, query_modality, where)
        fetch = max(k, _LEAST)
        while True:
            found = self._search(vector, fetch, where, _columns(query_modality))
            best: dict[str, Moment] = {}
            _fold(best, found, vector)
            if len(best) >= k or found.num_rows < fetch or fetch >= _MOST:
                return best
            fetch *= 4

    def _search(self, vector: Array, fetch: int, where: Filter, columns: list[str]) -> pa.Table:
        def search() -> pa.Table:
            with named(self._table):
                data = self._store.dataset(self._table)
                return nearest(data, vector[None], fetch, self._index, where=where, columns=columns)[0]

        return patient(search)

    def _contents(self, where: Filter) -> Iterator[list[str]]:
        yield from _chunks(sorted(set(self._read(["content_hash"], where)["content_hash"].to_pylist())))

    def _read(self, columns: list[str], where: Filter) -> pa.Table:
        return self._store.read(self._items, columns, where, version=self._version)


def _fold(best: dict[str, Moment], rows: pa.Table, vector: Array) -> None:
    """Take of each content the part with the highest score, of equal ones the earliest."""
    if not rows.num_rows:
        return
    cosines = matrix(rows["vector"].combine_chunks()) @ vector
    scores, starts = cosines, rows["start"].to_numpy()
    for term in (name for name in rows.column_names if name.startswith("hubness_")):
        scores = 2 * cosines - rows[term].to_numpy()
    codes = rows["content_hash"].combine_chunks().dictionary_encode()
    names, code = codes.dictionary.to_pylist(), codes.indices.to_numpy()
    order = np.lexsort((starts, -scores))
    _, first = np.unique(code[order], return_index=True)
    for place in order[first].tolist():
        moment = Moment(float(scores[place]), float(cosines[place]), float(starts[place]))
        known = best.get(names[code[place]])
        if known is None or (-moment.score, moment.start) < (-known.score, known.start):
            best[names[code[place]]] = moment


def _columns(query_modality: str) -> list[str]:
    """Of a part; without a query modality there is no hubness correction."""
    return ["content_hash", "start", "vector", *([f"hubness_{query_modality}"] if query_modality else [])]


def _chunks(contents: Sequence[str]) -> Iterator[list[str]]:
    for start in range(0, len(contents), _CHUNK):
        yield list(contents[start : start + _CHUNK])

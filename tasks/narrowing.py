"""Which rows of a table fulfil conditions on their attributes, which are JSON that LanceDB's SQL does not look into.

(Its JSON functions, of LanceDB 0.40, take binary JSON alone, which these columns are not.) The rows are streamed once.
Few that match become a list of keys, an ordinary prefilter. Of many a search takes more than it needs, and drops those
that do not match until enough are left: in either case the nearest of all that match.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from config.errors import UserError
from storage.filters import Filter, isin
from storage.tables import Store
from tasks.conditions import FIELDS, Condition

FEW = 2_000
"""Keys in a prefilter at most: LanceDB compares each row with each of them."""
_SPARE = 1.3  # rows taken, in those needed, were the matching ones spread evenly


@dataclass(frozen=True)
class Narrowed:
    """Rows that satisfy `where` and whose attributes fulfil `checks`: `matching` of `rows` that satisfy `where`."""

    where: Filter
    checks: tuple[Condition, ...] = ()
    matching: int = 0
    rows: int = 0

    def take(self, count: int, fetch: Callable[[int], pa.Table]) -> pa.Table:
        """The first `count` matching rows of what `fetch(n)` gives, the first n rows that satisfy `where`, in order.

        With checks the rows must hold `attributes`.
        """
        if not self.checks:
            return fetch(count)
        wanted = int(count * _SPARE * self.rows / max(self.matching, 1)) + 1
        while True:
            found = fetch(wanted)
            kept = found.filter(pa.array(fulfilled(found["attributes"], self.checks), pa.bool_()))
            if kept.num_rows >= count or found.num_rows < wanted:
                return kept.slice(0, count)
            wanted *= 4


def narrow(store: Store, table: str, version: int, where: Filter, checks: tuple[Condition, ...]) -> Narrowed:
    """Resolve conditions over a table. Raises `UserError` for an attribute that no row of the table has."""
    if not checks:
        return Narrowed(where)
    keys: list[str] = []
    matching = rows = 0
    for batch in store.stream(table, ["key", "attributes"], where, version=version):
        held = fulfilled(batch.column(1), checks)
        rows += len(held)
        matching += int(held.sum())
        if len(keys) <= FEW:
            keys += batch.column(0).filter(pa.array(held)).to_pylist()
    if not matching:
        _check_names(store, table, version, checks)
    if matching <= FEW:
        return Narrowed(where & isin("key", keys))
    return Narrowed(where, checks, matching, rows)


def matching_keys(store: Store, table: str, version: int, narrowed: Narrowed) -> Iterator[list[str]]:
    """The keys of all matching rows, a batch at a time."""
    columns = ["key", "attributes"] if narrowed.checks else ["key"]
    for batch in store.stream(table, columns, narrowed.where, version=version):
        keys = batch.column(0)
        if narrowed.checks:
            keys = keys.filter(pa.array(fulfilled(batch.column(1), narrowed.checks)))
        yield keys.to_pylist()


def fulfilled(
    attributes: pa.Array | pa.ChunkedArray, checks: Sequence[Condition]
) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """(n,) bool: which of these attributes, JSON objects, fulfil all conditions."""
    told = (json.loads(one) for one in attributes.to_pylist())
    return np.fromiter((all(check.holds(one) for check in checks) for one in told), np.bool_, len(attributes))


def attribute_names(store: Store, table: str, version: int) -> list[str]:
    """The names of all attributes in a table, sorted."""
    names: set[str] = set()
    for batch in store.stream(table, ["attributes"], version=version):
        for one in set(batch.column(0).to_pylist()):
            names |= json.loads(one).keys()
    return sorted(names)


def _check_names(store: Store, table: str, version: int, checks: Sequence[Condition]) -> None:
    known = attribute_names(store, table, version)
    for check in checks:
        if check.attribute not in known:
            fields = ", ".join(FIELDS)
            listed = f"the attributes are {', '.join(known)}" if known else "the items have no attributes"
            raise UserError(f"no item has an attribute {check.attribute!r}", f"{listed}; the fields are {fields}")

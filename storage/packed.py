"""Keys and hashes by the million: sorted arrays of bytes, a third of what a list of strings takes, a fifth of a set."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from storage.filters import Filter
from storage.tables import Store

Keys = npt.NDArray[np.bytes_]
"""(n,) of fixed width: 32 bytes for a hash in hex digits, which is what all keys are."""


def packed(column: pa.Array | Iterable[str]) -> Keys:
    """Strings as bytes, in their order.

    >>> packed(["b", "aa"]).tolist()
    [b'b', b'aa']
    """
    values = column.to_pylist() if isinstance(column, pa.Array) else list(column)
    return np.array([value.encode() for value in values], np.bytes_)


def unpacked(keys: Keys) -> list[str]:
    """The strings again.

    >>> unpacked(packed(["b", "aa"]))
    ['b', 'aa']
    """
    return [key.decode() for key in keys.tolist()]


def column_of(store: Store, table: str, column: str, where: Filter | None = None) -> Keys:
    """One column of keys of a table, in its order; empty if there is no such table."""
    whole, done = np.empty(store.count(table, where), "S32"), 0
    for batch in store.stream(table, [column], where):
        part = packed(batch.column(0))
        if done + len(part) > len(whole) or part.itemsize > whole.itemsize:  # another process has just written
            wide = np.promote_types(whole.dtype, part.dtype)
            whole = joined([whole[:done].astype(wide), np.empty(max(done, len(part)), wide)])
        whole[done : done + len(part)] = part
        done += len(part)
    return whole[:done]


def joined(parts: Iterable[Keys]) -> Keys:
    """Arrays of keys one behind the other."""
    return np.concatenate([np.empty(0, "S1"), *parts])


def place(known: Keys, wanted: Keys) -> npt.NDArray[np.int64]:
    """Places of `wanted` in the sorted `known`, -1 where absent.

    >>> place(packed(["a", "c"]), packed(["c", "b"])).tolist()
    [1, -1]
    """
    if not len(known):
        return np.full(len(wanted), -1, np.int64)
    found = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    return np.where(known[found] == wanted, found, -1).astype(np.int64)

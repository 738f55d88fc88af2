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
    if isinstance(column, pa.StringArray) and (even := _even(column)) is not None:
        return even
    values = column.to_pylist() if isinstance(column, pa.Array) else list(column)
    return np.array([value.encode() for value in values], np.bytes_)


def _even(column: pa.StringArray) -> Keys | None:
    """Strings that are all as long, without a copy; None for others."""
    if not len(column) or column.null_count:
        return None
    _, offsets, data = column.buffers()
    ends = np.frombuffer(offsets, np.int32, len(column) + 1, 4 * column.offset)
    width = int(ends[1] - ends[0])
    if not width or (np.diff(ends) != width).any():
        return None
    return np.frombuffer(data, f"S{width}", len(column), int(ends[0]))


def leading(keys: Keys) -> npt.NDArray[np.int64]:
    """The first four hex digits of keys as numbers: in their order, and evenly spread over 0 … 65,535.

    >>> leading(packed(["00ff", "8000"])).tolist()
    [255, 32768]
    """
    digits = keys.astype("S4").view(np.uint8).reshape(-1, 4).astype(np.int64)
    values = digits - np.where(digits > ord("9"), ord("a") - 10, ord("0"))
    return np.asarray(np.clip(values @ np.array([4_096, 256, 16, 1]), 0, 65_535), np.int64)


def part_of(hashes: pa.Array, parts: int) -> npt.NDArray[np.int64]:
    """Which of so many parts each hash (n,) belongs to; parts are in the order of the hashes.

    >>> part_of(pa.array(["00ff", "8000"]), 4).tolist()
    [0, 2]
    """
    return leading(packed(hashes)) * parts >> 16


def words(keys: Keys) -> npt.NDArray[np.uint64]:
    """Hashes (n,) of 32 hex digits as numbers (2·n,), two each.

    >>> words(packed(["00000000000000ff0000000000000001"])).tolist()
    [255, 1]
    """
    return np.frombuffer(bytes.fromhex(keys.tobytes().decode()), ">u8").astype(np.uint64)


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

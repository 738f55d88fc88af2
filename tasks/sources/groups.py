"""Groups are the connected components of rows that share a medium or a group name; splits never cut a group."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

HELD_OUT = "heldout"
"""The split drawn where the data declares none."""

_STRENGTH = {"test": 3, "val": 2, HELD_OUT: 2, "train": 0}


def components(n: int, edges: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Component label of each of `n` nodes joined by `edges` (m, 2); labels are 0, 1, … in no stated order.

    >>> components(4, np.array([[0, 2], [2, 3]])).tolist()
    [0, 1, 0, 0]
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    ones = np.ones(len(edges), np.int8)
    graph = coo_matrix((ones, (edges[:, 0], edges[:, 1])), shape=(n, n)) if len(edges) else coo_matrix((n, n))
    return np.asarray(connected_components(graph, directed=False)[1], np.int64)


def draw_split(group: str, seed: int, share: float) -> str:
    """`heldout` for about `share` of all groups, else `train`; by a hash, so that a new group moves no other.

    >>> draw_split("a", 0, 1.0), draw_split("a", 0, 0.0)
    ('heldout', 'train')
    """
    mark = hashlib.blake2b(f"{seed}\0{group}".encode(), digest_size=8).digest()
    return HELD_OUT if int.from_bytes(mark, "big") / 2**64 < share else "train"


def strictest(splits: Iterable[str]) -> str:
    """The split of a group whose members declare several: evaluation wins, so that training never sees a test item.

    >>> strictest(["train", "test"])
    'test'
    """
    return max(sorted(set(splits)), key=lambda name: _STRENGTH.get(name, 1))

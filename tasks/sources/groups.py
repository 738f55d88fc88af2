"""Groups are the connected components of rows that share a medium or a group name; splits never cut a group."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

HELD_OUT = "heldout"
"""The split drawn where the data declares none."""

_STRENGTH = {"test": 3, "val": 2, HELD_OUT: 2, "train": 0}

Nodes = npt.NDArray[np.integer[Any]]


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


class Forest:
    """The components of `n` nodes while they are joined, some edges at a time; four bytes a node.

    >>> forest = Forest(4)
    >>> forest.join(np.array([2]), np.array([3]))
    >>> forest.join(np.array([3]), np.array([0]))
    >>> forest.roots(np.arange(4)).tolist()
    [0, 1, 0, 0]
    """

    def __init__(self, n: int) -> None:
        self._above: Nodes = np.arange(n, dtype=np.min_scalar_type(n))

    def join(self, one: Nodes, other: Nodes) -> None:
        """Join node by node `one` (m,) with `other` (m,)."""
        ends = np.stack([self.roots(one), self.roots(other)])
        apart = ends[:, ends[0] != ends[1]]
        if not apart.size:
            return
        found, places = np.unique(apart, return_inverse=True)
        label = components(len(found), places.reshape(2, -1).T)
        _, first = np.unique(label, return_index=True)  # the smallest of each, for `found` is sorted
        self._above[found] = found[first][label]

    def roots(self, nodes: Nodes) -> Nodes:
        """The smallest node (m,) of each one's component."""
        found = self._above[nodes]
        while (higher := self._above[found] != found).any():
            found[higher] = self._above[found[higher]]
        self._above[nodes] = found
        return found


def draw_split(group: str, seed: int, share: float) -> str:
    """`heldout` for about `share` of all groups, else `train`; by a hash, so that a new group moves no other.

    >>> draw_split("a", 0, 1.0), draw_split("a", 0, 0.0)
    ('heldout', 'train')
    """
    mark = hashlib.blake2b(f"{seed}\0{group}".encode(), digest_size=8).digest()
    return HELD_OUT if int.from_bytes(mark, "big") / 2**64 < share else "train"


def strictest_first(splits: Iterable[str]) -> list[str]:
    """Splits in the order in which they win where the members of a group declare several.

    Evaluation wins, so that training never sees a test item.

    >>> strictest_first(["train", "test", "other"])
    ['test', 'other', 'train']
    """
    return sorted(set(splits), key=lambda name: (-_STRENGTH.get(name, 1), name))

"""How often mined pairs are right, estimated from given pairs that are hidden for the purpose."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from tasks.mining.pairs import Matches

Array = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]


class Hidden(NamedTuple):
    """Vectors of all items (nx, dim) and (ny, dim) by heads that have not seen the pairs `held` (h, 2), but `train`."""

    x: Array
    y: Array
    train: Indices
    held: Indices


class Precision(NamedTuple):
    """`correct` of `judged` ends of matches; a match has two ends."""

    correct: int
    judged: int

    @property
    def value(self) -> float | None:
        """The share, None where nothing could be judged."""
        return self.correct / self.judged if self.judged else None

    def interval(self, z: float = 1.959964) -> tuple[float, float] | None:
        """Its 95% interval by as many matches as are half the ends (Wilson 1927), None where nothing could be judged.

        >>> tuple(round(one, 3) for one in Precision(16, 20).interval())
        (0.49, 0.943)
        """
        if not self.judged:
            return None
        n, p = self.judged / 2, self.correct / self.judged
        middle, half = p + z * z / (2 * n), z * float(np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)))
        return (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)

    @classmethod
    def estimate(
        cls, folds: Iterable[Hidden], known: Indices, mine: Callable[[Hidden, Indices, Indices], Matches]
    ) -> Self:
        """Hide given pairs among the unpaired items, mine, and count how many matches of hidden items are right.

        `known` (m, 2) are all given pairs. `mine` gets the rows that it may pair, and gives places in them. Each
        hidden end of a match is judged: a right match has two of them, a wrong one mostly one, and counting matches
        would count the wrong ones twice as often. This is the precision for items whose partner is there to be found;
        where there is none, nothing that is mined is right. The heads of a fold have seen fewer pairs than the space.
        """
        correct = judged = 0
        for fold in folds:
            held = {tuple(pair) for pair in fold.held.tolist()}
            hidden = [np.unique(fold.held[:, side]) for side in (0, 1)]
            alone = [np.setdiff1d(np.arange(len(z)), known[:, side]) for side, z in enumerate((fold.x, fold.y))]
            rows = [np.concatenate(both) for both in zip(hidden, alone, strict=True)]
            found = mine(fold, rows[0], rows[1])
            ends = rows[0][found.left], rows[1][found.right]
            judged += sum(int(np.isin(end, own).sum()) for end, own in zip(ends, hidden, strict=True))
            correct += 2 * sum(pair in held for pair in zip(*(one.tolist() for one in ends), strict=True))
        return cls(correct, judged)

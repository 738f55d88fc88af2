"""Maps from features into the joint space: what a head does after its features. NumPy alone: search needs no more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import ClassVar, Protocol, Self

import numpy as np
import numpy.typing as npt

from tasks.retrieval.similarity import normalise

Array = npt.NDArray[np.float32]
_ROWS = 512  # items whose tokens are looked at together
_NONE = np.float32(-1e9)  # logit of no token


class Map(Protocol):
    """Features (n, width) → joint vectors (n, dim) of any length; `arrays` is all that it is made of."""

    kind: ClassVar[str]

    @property
    def dim(self) -> int:
        """Width of the joint space."""

    def apply(self, x: Array) -> Array:
        """Features (n, width) → (n, dim)."""

    def arrays(self) -> dict[str, Array]:
        """All arrays by name, float32."""

    @classmethod
    def load(cls, arrays: Mapping[str, Array]) -> Self:
        """The inverse of `arrays`."""


@dataclass(frozen=True)
class _OfArrays:
    """A map whose fields are arrays, all of them and nothing else."""

    def arrays(self) -> dict[str, Array]:
        """The fields by name."""
        return {one.name: getattr(self, one.name) for one in fields(self)}

    @classmethod
    def load(cls, arrays: Mapping[str, Array]) -> Self:
        """The inverse of `arrays`."""
        return cls(**arrays)


@dataclass(frozen=True)
class Linear(_OfArrays):
    """x·A with A (width, dim)."""

    kind: ClassVar[str] = "linear"
    matrix: Array

    @property
    def dim(self) -> int:
        """Width of the joint space."""
        return int(self.matrix.shape[1])

    def apply(self, x: Array) -> Array:
        """Features (n, width) → (n, dim)."""
        return np.asarray(x @ self.matrix, np.float32)


@dataclass(frozen=True)
class Residual(_OfArrays):
    """c·L + relu(c·U + u)·D with c = x·A at unit length: a linear start, and one hidden layer beside it."""

    kind: ClassVar[str] = "residual"
    matrix: Array
    line: Array
    up: Array
    bias: Array
    down: Array

    @property
    def dim(self) -> int:
        """Width of the joint space."""
        return int(self.down.shape[1])

    def apply(self, x: Array) -> Array:
        """Features (n, width) → (n, dim)."""
        c = normalise(x @ self.matrix)
        return np.asarray(c @ self.line + np.maximum(c @ self.up + self.bias, 0) @ self.down, np.float32)


@dataclass(frozen=True)
class Relative:
    """An item as its similarities to anchors (p, width): the `k` largest, to a power; the rest is 0.

    Source: Norelli et al. 2023, ASIF.
    """

    kind: ClassVar[str] = "relative"
    anchors: Array
    k: int
    power: float

    @property
    def dim(self) -> int:
        """Number of anchors."""
        return len(self.anchors)

    def apply(self, x: Array) -> Array:
        """Features (n, width) → (n, p).

        >>> Relative(np.eye(2, dtype=np.float32), 1, 2.0).apply(np.array([[3.0, 4.0]], np.float32)).round(2).tolist()
        [[0.0, 0.6399999856948853]]
        """
        return np.asarray(nearest(nearness(x, self.anchors), self.k) ** self.power, np.float32)

    def arrays(self) -> dict[str, Array]:
        """The anchors, and k and the power."""
        return {"anchors": self.anchors, "options": np.array([self.k, self.power], np.float32)}

    @classmethod
    def load(cls, arrays: Mapping[str, Array]) -> Self:
        """The inverse of `arrays`."""
        k, power = arrays["options"].tolist()
        return cls(arrays["anchors"], int(k), power)


def nearness(x: Array, anchors: Array) -> Array:
    """Cosines of items (n, width) with unit anchors (p, width), those below 0 as 0: (n, p)."""
    return np.asarray(np.maximum(normalise(x) @ anchors.T, 0), np.float32)


def nearest(near: Array, k: int) -> Array:
    """The `k` largest of each row of `near` (n, p), or all where there are fewer; the rest is 0."""
    place = max(near.shape[1] - k, 0)
    least = np.partition(near, place, axis=1)[:, place, None]
    return np.asarray(np.where(near >= least, near, 0), np.float32)


@dataclass(frozen=True)
class Gated(_OfArrays):
    """Σₑ g(x)ₑ · x·Aₑ, gates g = softmax(x·G + b) over `matrices` (e, width, dim): which encoder counts for an item.

    Source: the mixture of experts of Miech et al. 2018, with one expert an encoder.
    """

    kind: ClassVar[str] = "gated"
    matrices: Array
    gates: Array
    bias: Array

    @property
    def dim(self) -> int:
        """Width of the joint space."""
        return int(self.matrices.shape[2])

    def apply(self, x: Array) -> Array:
        """Features (n, width) → (n, dim)."""
        weights = softmax(x @ self.gates + self.bias)
        return np.asarray(sum(weights[:, e, None] * (x @ one) for e, one in enumerate(self.matrices)), np.float32)


@dataclass(frozen=True)
class Attention:
    """c·L + Σₑ attₑ(c, T)·Oₑ with c = x·A at unit length: a linear start, and what it looks for among the tokens.

    Each encoder has `heads` queries c·Q + b; attₑ are the means of its tokens (t, w), one a head, weighted by a softmax
    of query · token / √w. A token of zeros is none. Takes features and behind them the tokens, encoder by encoder,
    `counts` of them: (n, width + Σ t·w). Source: Vaswani et al. 2017; keys and values are the tokens themselves, for Q
    and O are linear too.
    """

    kind: ClassVar[str] = "attention"
    matrix: Array
    line: Array
    queries: Array
    bias: Array
    out: Array
    counts: tuple[int, ...]
    heads: int

    @property
    def dim(self) -> int:
        """Width of the joint space."""
        return int(self.line.shape[1])

    def apply(self, x: Array) -> Array:
        """Features and tokens (n, width + Σ t·w) → (n, dim)."""
        blocks = [self._some(x[start : start + _ROWS]) for start in range(0, len(x), _ROWS)]
        return np.concatenate(blocks) if blocks else np.empty((0, self.dim), np.float32)

    def _some(self, x: Array) -> Array:
        width = len(self.matrix)
        c = normalise(x[:, :width] @ self.matrix)
        z = c @ self.line
        size = self.queries.shape[2] // self.heads
        ends = width + np.cumsum([count * size for count in self.counts])
        for e, tokens in enumerate(np.split(x, [width, *ends], axis=1)[1:-1]):
            t = tokens.reshape(len(x), -1, size)
            q = (c @ self.queries[e] + self.bias[e]).reshape(len(x), self.heads, size)
            logits = q @ t.transpose(0, 2, 1) / np.sqrt(size) + np.where(t.any(2), 0, _NONE)[:, None]
            shares = np.exp(logits - logits.max(2, keepdims=True))
            shares /= shares.sum(2, keepdims=True)
            z += (shares @ t).reshape(len(x), -1) @ self.out[e]
        return np.asarray(z, np.float32)

    def arrays(self) -> dict[str, Array]:
        """All arrays, and the numbers of tokens and of heads."""
        made = {name: getattr(self, name) for name in ("matrix", "line", "queries", "bias", "out")}
        return made | {"options": np.array([self.heads, *self.counts], np.float32)}

    @classmethod
    def load(cls, arrays: Mapping[str, Array]) -> Self:
        """The inverse of `arrays`."""
        heads, *counts = arrays["options"].astype(int).tolist()
        weights = {name: one for name, one in arrays.items() if name != "options"}
        return cls(**weights, counts=tuple(counts), heads=heads)


@dataclass(frozen=True)
class Named(_OfArrays):
    """c + w·s with c = x·A at unit length, s = (p − p̄)·N at unit length and p the softmax of the logits of classes.

    Takes features and behind them the logits: (n, width + c). `shares` p̄ (c,) are the mean p of the training items,
    `names` N (c, dim) the places of the classes' names in the joint space; `weight` w is (1,). See `alignment.naming`.
    """

    kind: ClassVar[str] = "named"
    matrix: Array
    shares: Array
    names: Array
    weight: Array

    @property
    def dim(self) -> int:
        """Width of the joint space."""
        return int(self.matrix.shape[1])

    def apply(self, x: Array) -> Array:
        """Features and logits (n, width + c) → (n, dim)."""
        width = len(self.matrix)
        said = (softmax(x[:, width:]) - self.shares) @ self.names
        return np.asarray(normalise(x[:, :width] @ self.matrix) + self.weight * normalise(said), np.float32)


def softmax(logits: Array) -> Array:
    """Shares of each row of logits (n, c): they add up to 1.

    >>> softmax(np.zeros((1, 2), np.float32)).tolist()
    [[0.5, 0.5]]
    """
    out = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(out / out.sum(1, keepdims=True), np.float32)


KINDS: Sequence[type[Map]] = (Linear, Residual, Relative, Gated, Attention, Named)


def load_map(kind: str, arrays: Mapping[str, Array]) -> Map:
    """A map by its kind. Raises `ValueError` for a kind that is not known."""
    found = next((one for one in KINDS if one.kind == kind), None)
    if found is None:
        raise ValueError(f"a head of the kind {kind!r} is not known; known: {', '.join(one.kind for one in KINDS)}")
    return found.load(arrays)


def inside(arrays: Mapping[str, Array], lead: str) -> dict[str, Array]:
    """The arrays whose names begin with `lead`, without it."""
    return {name.removeprefix(lead): one for name, one in arrays.items() if name.startswith(lead)}


def padded(matrix: Array, multiple: int = 8) -> Array:
    """A matrix (d, w) with columns of zeros up to a multiple in width: no cosine changes, and every index takes it.

    >>> padded(np.ones((2, 3), np.float32)).shape
    (2, 8)
    """
    return np.pad(matrix, ((0, 0), (0, -matrix.shape[1] % multiple)))

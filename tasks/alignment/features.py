"""Features before alignment: each encoder's embeddings centred, normalised and rotated to principal components.

Several encoders of one modality stand side by side. The result has a diagonal covariance, which makes the choice of
the regularisation nearly free.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from tasks.retrieval.similarity import normalise

Array = npt.NDArray[np.float32]


def signed_sqrt(x: Array) -> Array:
    """sign(x)·√|x|: tames the heavy tail of CNN activations.

    >>> signed_sqrt(np.array([-4.0, 9.0], np.float32)).tolist()
    [-2.0, 3.0]
    """
    return np.asarray(np.sign(x) * np.sqrt(np.abs(x)), np.float32)


def principal_axes(x: Array, width: int) -> tuple[Array, Array]:
    """Leading eigenvectors (d, w) of the second moment of `x` (n, d), and its eigenvalues (w,), largest first.

    With n < d the n × n Gram matrix is decomposed instead. Signs are fixed (largest entry positive), so that the
    result does not depend on the number of threads beyond rounding. The axes lie in memory as they do when they are
    read back, for the order of an array can change the last bits of a product.
    """
    n, d = x.shape
    wide = x.astype(np.float64)
    if n < d:
        values, left = np.linalg.eigh(wide @ wide.T / n)
        keep = np.flatnonzero(values > values[-1] * 1e-10)[::-1][:width]
        axes = wide.T @ left[:, keep] / np.sqrt(values[keep] * n)
    else:
        values, axes = np.linalg.eigh(wide.T @ wide / n)
        keep = np.flatnonzero(values > values[-1] * 1e-10)[::-1][:width]
        axes = axes[:, keep]
    axes = axes * np.where(axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])] < 0, -1.0, 1.0)
    return np.ascontiguousarray(axes, np.float32), values[keep].astype(np.float32)


@dataclass(frozen=True)
class EncoderMap:
    """One encoder's map: optional signed square root, minus the training mean, L2, principal components."""

    cnn: bool
    mean: Array
    axes: Array

    @classmethod
    def fit(cls, x: Array, *, cnn: bool, width: int) -> Self:
        """Fit on the training embeddings `x` (n, d)."""
        values = signed_sqrt(x) if cnn else x
        mean = values.mean(0, dtype=np.float64).astype(np.float32)
        return cls(cnn, mean, principal_axes(normalise(values - mean), width)[0])

    def apply(self, x: Array) -> Array:
        """Embeddings (n, d) → (n, width)."""
        values = signed_sqrt(x) if self.cnn else x
        return normalise(values - self.mean) @ self.axes


@dataclass(frozen=True)
class Features:
    """The maps of all encoders of one modality, side by side, rotated to a diagonal covariance and centred."""

    maps: Mapping[str, EncoderMap]
    mean: Array
    rotation: Array
    variances: Array

    @classmethod
    def fit(cls, vectors: Mapping[str, Array], *, cnn: Mapping[str, bool], width: int) -> Self:
        """Fit on the training embeddings {encoder: (n, d)}, rows aligned; `width` bounds each encoder's components."""
        maps = {name: EncoderMap.fit(x, cnn=cnn[name], width=width) for name, x in vectors.items()}
        joined = _join([maps[name].apply(x) for name, x in vectors.items()])
        mean = joined.mean(0, dtype=np.float64).astype(np.float32)
        rotation, variances = principal_axes(joined - mean, joined.shape[1])
        return cls(maps, mean, rotation, variances)

    def apply(self, vectors: Mapping[str, Array]) -> Array:
        """Embeddings {encoder: (n, d)} → (n, width), the encoders in the order of the fit."""
        joined = _join([one.apply(vectors[name]) for name, one in self.maps.items()])
        return np.asarray((joined - self.mean) @ self.rotation, np.float32)

    def blocks(self) -> list[Array]:
        """Each encoder's rows (w, width) of the rotation: x·blockᵀ is its part of the features x (n, width)."""
        ends = np.cumsum([one.axes.shape[1] for one in self.maps.values()])
        return np.split(self.rotation, ends[:-1])

    def arrays(self) -> dict[str, Array]:
        """All arrays by name."""
        out = {"mean": self.mean, "rotation": self.rotation, "variances": self.variances}
        for place, one in enumerate(self.maps.values()):
            out |= {f"encoder{place}.mean": one.mean, f"encoder{place}.axes": one.axes}
        return out

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array], encoders: list[str], cnn: Mapping[str, bool]) -> Self:
        """The inverse of `arrays`, given the encoders' names in order."""
        maps = {
            name: EncoderMap(cnn[name], arrays[f"encoder{place}.mean"], arrays[f"encoder{place}.axes"])
            for place, name in enumerate(encoders)
        }
        return cls(maps, arrays["mean"], arrays["rotation"], arrays["variances"])


def _join(parts: list[Array]) -> Array:
    return np.asarray(np.concatenate(parts, 1) / np.sqrt(len(parts)), np.float32)

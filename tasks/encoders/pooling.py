"""Vectors of the parts of what lasts → one vector: their mean, their largest values, or a mean by attention."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import numpy.typing as npt

from tasks.encoders.protocol import Array, EncoderError, EncoderSpec, Pool

TEMPERATURE = 0.1
"""Of attention: a part that is nearer to the mean by a cosine of .1 weighs e times as much."""


def pooled(parts: Array, pool: Pool) -> npt.NDArray[np.float64]:
    """Vectors `(n, d)` of an item's parts, in order of time, n ≥ 1 → `(d,)`, of any length.

    By attention a part weighs exp(cos / `TEMPERATURE`), cos being its cosine to the mean of all parts at unit length:
    what is like nothing else in the item counts less. There is nothing to learn. (Ours; Bain et al. 2022, "A CLIP-
    Hitchhiker's Guide to Long Video Retrieval", weigh frames so by their cosine to a text.)

    >>> parts = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    >>> [pooled(parts, pool).round(3).tolist() for pool in ("mean", "max", "attention")]
    [[0.667, 0.333], [1.0, 1.0], [0.994, 0.006]]
    """
    if pool == "max":
        return np.asarray(parts.max(axis=0), np.float64)
    if pool == "mean":
        return np.asarray(parts.mean(axis=0, dtype=np.float64))
    wide = parts.astype(np.float64)
    lengths = np.maximum(np.linalg.norm(wide, axis=1), 1e-12)
    middle = (wide / lengths[:, None]).mean(axis=0)
    cosines = wide @ (middle / max(float(np.linalg.norm(middle)), 1e-12)) / lengths
    weights = np.exp((cosines - cosines.max()) / TEMPERATURE)
    return np.asarray(weights @ wide / weights.sum())


def checked_pool(name: str, wanted: str) -> Pool:
    """A way to pool, by its name. Raises `EncoderError` naming the encoder for one that is not there."""
    for one in get_args(Pool):
        if one == wanted:
            found: Pool = one
            return found
    ways = [f"pool={one}" for one in get_args(Pool)]
    raise EncoderError(
        f"{name}: what lasts cannot be pooled by {wanted!r}", f"use {', '.join(ways[:-1])} or {ways[-1]}"
    )


def pooled_by(spec: EncoderSpec, name: str, pool: Pool) -> EncoderSpec:
    """The spec of an encoder of what lasts that pools in another way, and the name that says so."""
    sampling, _, _ = spec.sampling.rpartition(", ")
    return replace(spec, name=name, pool=pool, sampling=f"{sampling}, {pool}")

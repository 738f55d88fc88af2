"""Recall against time of a search: ours beside faiss, hnswlib and usearch, on clustered vectors and on real ones."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tests.benchmarks.rivals import RIVALS

Array = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]

SIZES = {"clustered-100k": (100_000, 384), "clustered-1m": (1_000_000, 256)}
CACHE = Path(os.environ.get("MODALIGN_BENCH_CACHE", str(Path(tempfile.gettempdir()) / "modalign-bench")))
ASKED = 1_200  # a thousand in a batch, 200 one after the other


def clustered(n: int, dim: int, seed: int = 0) -> tuple[Array, Array]:
    """Unit vectors (n, dim) and `ASKED` queries of the same law that are not among them.

    A thousand centres, with noise of their own size about each; both lie mostly in the first directions (variance 1/i),
    as embeddings do, so that clusters run into each other.
    """
    draw = np.random.default_rng(seed)
    spread = (1 / np.sqrt(np.arange(1, dim + 1))).astype(np.float32)
    centres = draw.standard_normal((1_000, dim), dtype=np.float32)
    out = np.empty((n + ASKED, dim), np.float32)
    for start in range(0, len(out), 2**16):
        part = out[start : start + 2**16]
        part[:] = (centres[draw.integers(0, 1_000, len(part))] + draw.standard_normal(part.shape, np.float32)) * spread
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return out[:n], out[n:]


def vectors(name: str) -> tuple[Array, Array]:
    """Gallery and queries of a data set, made once and kept."""
    folder = CACHE / name
    if not (folder / "queries.npy").exists():
        folder.mkdir(parents=True, exist_ok=True)
        for kind, rows in zip(("gallery", "queries"), clustered(*SIZES[name]), strict=True):
            np.save(folder / f"{kind}.npy", rows)
    return tuple(np.load(folder / f"{kind}.npy", mmap_mode="r") for kind in ("gallery", "queries"))  # type: ignore[return-value]


def build(names: list[str]) -> None:
    """Make the rivals' indexes of these data sets ahead of the measurement."""
    for name in names:
        gallery, _ = vectors(name)
        for rival in RIVALS:
            _, seconds, size = rival.built(gallery, CACHE / name)
            print(name, rival.name, f"{seconds:.0f} CPU s, {size / 1e6:.0f} MB", flush=True)


if __name__ == "__main__":
    build(sys.argv[1:])

"""Flickr8k's embeddings under the packaged encoders, ingested once into a workspace, and what is measured with them."""

from __future__ import annotations

import os
import resource
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from storage import schemas
from storage.filters import eq
from storage.tables import Store
from storage.workspace import Workspace
from tasks.alignment.fit import View
from tasks.alignment.space import JointSpace
from tasks.heldout import Direction, Held, resampled_rsum, rsum
from tasks.metrics import bootstrap
from tests.benchmarks.flickr8k import data
from tests.benchmarks.measured import modalign

Array = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]

IMAGE, TEXT = "image", "text"
LITE0, LITE2, MINILM, MPNET = "efficientnet-lite0", "efficientnet-lite2", "minilm", "mpnet"
CNN = {LITE0: True, LITE2: True}
TOKENS = {f"{LITE0}#tokens": 16, f"{MINILM}#tokens": 32}
"""Encoders that give tokens, and how many."""
_ENCODERS = 'encode.encoders={"image": ["builtin:efficientnet-lite0"], "text": ["builtin:minilm"]}'


@dataclass(frozen=True)
class Split:
    """The items of one split: vectors by encoder, and pairs (m, 2) as rows of images and of texts; the texts too."""

    images: Mapping[str, Array]
    texts: Mapping[str, Array]
    pairs: Indices
    words: list[str]


@dataclass(frozen=True)
class Result:
    """Rsum with the draws of its bootstrap over images, by the hubness correction and without; CPU seconds."""

    rsum: float
    raw: float
    draws: npt.NDArray[np.float64]
    cpu: float

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% interval."""
        return bootstrap.interval(self.draws, 0.95)


def workspace() -> Path:
    """A workspace that holds Flickr8k's embeddings; MODALIGN_BENCH_WORKSPACE names one that does already."""
    named = os.environ.get("MODALIGN_BENCH_WORKSPACE")
    root = Path(named) if named else Path(tempfile.gettempdir()) / "modalign-bench-flickr8k"
    if not (root / "tables").is_dir():
        modalign(["ingest", str(data()), "--profile", "best", "-w", str(root)])
    return root


class Vectors:
    """Train and val, read from the workspace."""

    def __init__(self) -> None:
        self._root = workspace()
        self._store = Workspace(root=self._root).store

    @cached_property
    def train(self) -> Split:
        """6,000 photos with 5 captions each."""
        return _split(self._store, "train")

    @cached_property
    def val(self) -> Split:
        """1,000 photos with 5 captions each."""
        return _split(self._store, "val")

    @cached_property
    def with_tokens(self) -> tuple[Split, Split]:
        """Train and val with the tokens of lite0 and MiniLM, which are encoded into the workspace at first (1.2 GB)."""
        if not any(name.startswith("tokens_") for name in self._store.names()):
            wanted = ["--set", _ENCODERS, "--set", "align.method=heads", "--set", "align.heads.shape=attention"]
            modalign(["ingest", str(data()), *wanted, "-w", str(self._root)])
        train, val = (_split(self._store, name, ("embeddings_", "tokens_")) for name in ("train", "val"))
        return train, val


def _split(store: Store, name: str, kinds: tuple[str, ...] = ("embeddings_",)) -> Split:
    where = eq("split", name)
    sides = {}
    for modality in (IMAGE, TEXT):
        columns = ["key", "content_hash", "text"]
        sides[modality] = store.read(schemas.ITEMS, columns, where & eq("modality", modality)).sort_by("key")
    vectors: dict[str, dict[str, Array]] = {IMAGE: {}, TEXT: {}}
    for table in store.names():
        if table.startswith(kinds):
            kind, encoder, _ = table.split("_")
            modality = IMAGE if encoder in CNN else TEXT
            encoder += "#tokens" if kind == "tokens" else ""
            vectors[modality][encoder] = store.vectors(table, sides[modality]["content_hash"].to_pylist())[0]
    place = {key: row for side in sides.values() for row, key in enumerate(side["key"].to_pylist())}
    pairs = store.read(schemas.PAIRS, ["left", "right"], eq("source", "given"))
    ends = [[place.get(key, -1) for key in pairs[column].to_pylist()] for column in ("left", "right")]
    both = np.array(ends, np.int64).T
    both = both[(both >= 0).all(1)]
    both = both[np.lexsort((both[:, 1], both[:, 0]))]
    return Split(vectors[IMAGE], vectors[TEXT], both, sides[TEXT]["text"].to_pylist())


def some_pairs(split: Split, n: int, seed: int) -> Indices:
    """`n` pairs of different images, one caption each."""
    draw = np.random.default_rng(seed)
    mixed = split.pairs[draw.permutation(len(split.pairs))]
    first = mixed[np.unique(mixed[:, 0], return_index=True)[1]]
    return np.asarray(first[draw.permutation(len(first))[:n]])


def views(split: Split, pairs: Indices, images: Sequence[str], texts: Sequence[str]) -> tuple[View, View, Indices]:
    """The items of `pairs` alone, as a fit takes them; groups are images."""
    rows, place = zip(*(np.unique(pairs[:, side], return_inverse=True) for side in (0, 1)), strict=True)
    owner = dict(zip(pairs[:, 1].tolist(), pairs[:, 0].tolist(), strict=True))
    groups = np.array([owner[row] for row in rows[1].tolist()], np.int64)
    left, right = (
        View(
            modality,
            {name: of[name][row] for name in names},
            {name: name.partition("#")[0] in CNN for name in names},
            own,
            {name: TOKENS[name] for name in names if name in TOKENS},
        )
        for modality, of, names, row, own in (
            (IMAGE, split.images, images, rows[0], rows[0]),
            (TEXT, split.texts, texts, rows[1], groups),
        )
    )
    return left, right, np.stack(place, 1)


def of_space(val: Split, space: JointSpace, cpu: float) -> Result:
    """A fitted space on val, both directions, with 1,000 draws over images."""
    of = np.empty(len(val.words), np.int64)
    of[val.pairs[:, 1]] = val.pairs[:, 0]
    images = np.arange(int(val.pairs[:, 0].max()) + 1)
    held = {}
    for name, other, known, groups in ((IMAGE, TEXT, val.images, images), (TEXT, IMAGE, val.texts, of)):
        z = space.project(name, known)
        held[name] = Held(name, np.arange(len(z)).astype(np.str_), [], z, groups, {other: space.hubness(z, other)})
    ways = (
        Direction(held[TEXT], held[IMAGE], val.pairs[:, ::-1]),
        Direction(held[IMAGE], held[TEXT], val.pairs),
    )
    weights = bootstrap.group_weights(len(images), 1_000, 0)
    scores = rsum(ways[0].values, ways[1].values), rsum(ways[0].raw, ways[1].raw)
    return Result(*scores, resampled_rsum(ways, weights), cpu)


def cpu_seconds() -> float:
    """CPU time of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime

"""Bind every further encoded modality to a space, each through the one of its modalities that most pairs join it to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from config.errors import RunError
from config.params import AlignParams
from storage import schemas
from storage.filters import eq, isin
from storage.spaces import PSEUDO_PAIRS
from storage.tables import Store
from tasks.align import TRAIN, load_training, pair_counts, plan_of, sketch_of, vectors_of
from tasks.alignment.binding import bind
from tasks.alignment.fit import Fitted, View
from tasks.alignment.space import JointSpace
from tasks.leaning import named_items, named_leaning
from tasks.refs import EncoderRef

Array = npt.NDArray[np.float32]
REST = 2_000
"""Items of the other modalities that pseudo-pairs are sought among, about."""


@dataclass(frozen=True)
class Bindings:
    """A space with further heads, what a later look compares them with, and why a modality has none.

    `pseudo_pairs` are those that the further heads stand on.
    """

    space: JointSpace
    lineage: dict[str, npt.NDArray[Any]]
    left_out: dict[str, str]
    pseudo_pairs: pa.Table


@dataclass(frozen=True)
class BindingSet:
    """The training items of a new modality, its pivot's vectors, pairs (new, pivot) of rows, vectors of the others.

    `items` are key and modality of the rows of the new one, and of those of the pivot with the others behind them.
    """

    view: View
    pivot: str
    z: Array
    pairs: npt.NDArray[np.int64]
    rest: Array
    items: tuple[pa.Table, pa.Table]


def bind_others(
    store: Store, collections: tuple[str, ...], encoded: tuple[EncoderRef, ...], space: JointSpace, params: AlignParams
) -> Bindings:
    """`space` with a head for every encoded modality that training pairs join to one of its own, directly or in turn.

    The one with most pairs comes first. No head that is there changes.
    """
    given = isin("collection", collections) & eq("source", "given")
    counts = pair_counts(store, given)
    waiting = {one.modality for one in encoded} - space.heads.keys()
    lineage: dict[str, npt.NDArray[Any]] = {}
    left_out: dict[str, str] = {}
    pseudo_pairs = PSEUDO_PAIRS.empty_table()
    while waiting:
        joins = [(counts[_ordered(new, pivot)], new, pivot) for new in sorted(waiting) for pivot in space.heads]
        count, new, pivot = max(joins, key=lambda one: one[0])
        waiting.remove(new)
        if not count:
            left_out[new] = f"no known pair joins {new} and {' or '.join(space.heads)}"
            continue
        try:
            found = load_binding(store, collections, encoded, space, new, pivot, params.seed)
            fitted = bound_to(space, found, params)
        except RunError as error:
            left_out[new] = error.message
            continue
        except ValueError as error:
            left_out[new] = str(error)
            continue
        space = fitted.space
        lineage[f"{new}.pairs"] = sketch_of(store, collections, _ordered(new, pivot))
        lineage[f"{new}.mean"] = space.project(new, found.view.vectors).mean(0, dtype=np.float64)
        pseudo_pairs = pa.concat_tables([pseudo_pairs, named_leaning(fitted.leaning, found.items, new)])
    return Bindings(space, lineage, left_out, pseudo_pairs)


def load_binding(
    store: Store,
    collections: tuple[str, ...],
    encoded: tuple[EncoderRef, ...],
    space: JointSpace,
    new: str,
    pivot: str,
    seed: int,
) -> BindingSet:
    """What a modality is bound by; of the other modalities of the space some items, drawn by seed.

    Raises `RunError` where no training pair joins the two.
    """
    training = load_training(store, collections, encoded, names=_ordered(new, pivot))
    views = (training.left, training.right)
    side = 0 if training.left.modality == new else 1
    others = [name for name in space.heads if name not in (new, pivot)]
    rest = [_some(store, collections, encoded, space, name, REST // len(others), seed) for name in others]
    return BindingSet(
        view=views[side],
        pivot=pivot,
        z=space.project(pivot, views[1 - side].vectors),
        pairs=training.pairs if side == 0 else training.pairs[:, ::-1],
        rest=np.concatenate([np.empty((0, space.dim), np.float32), *(vectors for _, vectors in rest)]),
        items=(training.items[side], pa.concat_tables([training.items[1 - side], *(items for items, _ in rest)])),
    )


def bound_to(space: JointSpace, found: BindingSet, params: AlignParams, values: dict[str, Any] | None = None) -> Fitted:
    """`space` with a head for the new modality, by given values or chosen ones."""
    return bind(
        space, found.view, found.pivot, found.z, found.pairs, found.rest, plan_of(params), values=values
    )  # fmt: skip


def _some(
    store: Store,
    collections: tuple[str, ...],
    encoded: tuple[EncoderRef, ...],
    space: JointSpace,
    modality: str,
    count: int,
    seed: int,
) -> tuple[pa.Table, Array]:
    """Training items of a modality, at most `count`, and their vectors in the space; of a content the first by key."""
    where = isin("collection", collections) & eq("modality", modality) & eq("split", TRAIN)
    contents = sorted(set(store.strings(schemas.ITEMS, "content_hash", where)))
    chosen = np.sort(np.random.default_rng(seed).permutation(len(contents))[:count])
    some = [contents[place] for place in chosen.tolist()]
    vectors, found = vectors_of(store, modality, some, encoded)
    rows = store.read(schemas.ITEMS, ["key", "content_hash"], where & isin("content_hash", some)).to_pylist()
    first = {row["content_hash"]: row["key"] for row in sorted(rows, key=lambda row: str(row["key"]), reverse=True)}
    keys = [first[content] for content, there in zip(some, found.tolist(), strict=True) if there]
    return named_items(keys, modality), space.project(modality, {name: one[found] for name, one in vectors.items()})


def _ordered(one: str, other: str) -> tuple[str, str]:
    return (one, other) if one < other else (other, one)

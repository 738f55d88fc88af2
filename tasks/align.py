"""The known pairs of a collection's training groups with their vectors, and the fit of two modalities on them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from config.errors import RunError, UserError
from config.params import AlignParams
from storage import schemas
from storage.filters import Filter, eq, isin, ne
from storage.generated import GENERATED
from storage.spaces import load_space
from storage.tables import Store
from tasks.alignment.fit import Fitted, View, fit_space
from tasks.alignment.lineage import pair_sketch
from tasks.alignment.plan import HeadPlan, Plan
from tasks.alignment.space import JointSpace
from tasks.contents import TEXT
from tasks.encode import spec_of
from tasks.leaning import named_items
from tasks.name_classes import vectors_of_names
from tasks.refs import EncoderRef
from tasks.sources.item import digest

TRAIN = "train"


@dataclass(frozen=True)
class TrainingSet:
    """The items of two modalities that pairs join, with their vectors, and the pairs as row numbers.

    `items` are key and modality of the rows of either side.
    """

    left: View
    right: View
    pairs: npt.NDArray[np.int64]
    items: tuple[pa.Table, pa.Table]


def sketch_of(store: Store, collections: tuple[str, ...], modalities: tuple[str, str]) -> npt.NDArray[np.uint64]:
    """The sketch of the given training pairs of two modalities, by content, as they are now."""
    here = isin("collection", collections)
    sides = []
    for name in modalities:
        where = here & eq("modality", name) & eq("split", TRAIN)
        rows = store.read(schemas.ITEMS, ["key", "content_hash"], where).sort_by("key")
        sides.append([np.asarray(rows[column].to_pylist(), dtype=np.str_) for column in ("key", "content_hash")])
    links = eq("left_modality", modalities[0]) & eq("right_modality", modalities[1]) & here & eq("source", "given")
    pairs = store.read(schemas.PAIRS, ["left", "right"], links)
    ends = [
        place_of(keys, pairs[column].to_pylist()) for (keys, _), column in zip(sides, ("left", "right"), strict=True)
    ]
    there = (ends[0] >= 0) & (ends[1] >= 0)
    return pair_sketch(sides[0][1][ends[0][there]], sides[1][1][ends[1][there]])


def fit_training(training: TrainingSet, params: AlignParams, values: dict[str, Any] | None = None) -> Fitted:
    """Fit by the params' plan, with given `values` or chosen ones; too few pairs are the user's error."""
    try:
        return fit_space(training.left, training.right, training.pairs, plan_of(params), values=values)
    except ValueError as error:
        raise UserError(str(error), "give more known pairs") from None


def plan_of(params: AlignParams) -> Plan:
    """The plan that the params ask for."""
    return Plan(**params.model_dump(exclude={"heads", "generated"}), heads=HeadPlan(**params.heads.model_dump()))


def open_space(path: str) -> tuple[JointSpace, dict[str, Any]]:
    """The space in a folder, and its config."""
    from pathlib import Path

    arrays, config = load_space(Path(path))
    return JointSpace.load(arrays, config), config


def load_training(
    store: Store,
    collections: tuple[str, ...],
    encoded: tuple[EncoderRef, ...],
    *,
    mined: bool = False,
    generated: bool = False,
    names: tuple[str, str] | None = None,
) -> TrainingSet:
    """The pairs whose both ends lie in training groups and have vectors under every encoder of their modality.

    Of the two modalities `names`, the lesser on the left, or of those two that most known pairs join. Besides the
    known pairs those that were `mined` or `generated`, if these are asked for.
    """
    here = isin("collection", collections)
    names = names or _modalities(store, here, encoded)
    sources = [name for name, wanted in (("given", True), ("mined", mined), (GENERATED, generated)) if wanted]
    links = eq("left_modality", names[0]) & eq("right_modality", names[1]) & here & isin("source", sources)
    pairs = store.read(schemas.PAIRS, ["left", "right"], links)
    more = {"text": _captions(store, here)} if generated else {}
    sides = [_side(store, here, name, encoded, more.get(name)) for name in names]
    columns = zip(sides, ("left", "right"), strict=True)
    ends = np.stack([place_of(side.keys, pairs[column].to_pylist()) for side, column in columns], 1)
    ends = ends[(ends >= 0).all(1)]
    if not len(ends):
        raise RunError(
            f"no pair of {names[0]} and {names[1]} with vectors lies in the training split of {', '.join(collections)}",
            "declare pairs in the metadata, or check the split column",
        )
    numbers = np.unique(np.concatenate([side.groups for side in sides]), return_inverse=True)[1]
    left, right = (
        View(name, side.vectors, side.cnn, part, side.tokens)
        for name, side, part in zip(names, sides, np.split(numbers, [len(sides[0].keys)]), strict=True)
    )
    left, right = _named(store, encoded, left, right)
    items, others = (named_items(side.keys, name) for side, name in zip(sides, names, strict=True))
    return TrainingSet(left, right, np.unique(ends, axis=0), (items, others))


def _named(store: Store, encoded: tuple[EncoderRef, ...], left: View, right: View) -> tuple[View, View]:
    """The views; if one is of texts, the other with the classes that its encoders score, and the texts with names."""
    if left.modality == TEXT != right.modality:
        return _named(store, encoded, right, left)[::-1]
    lists = {name: spec_of(name, left.modality).classes for name in left.vectors}
    scored = min(set(lists.values()) - {""}, default="")
    names = vectors_of_names(store, scored, encoded) if scored and right.modality == TEXT else {}
    if not names:
        return left, right
    classes = tuple(name for name, one in lists.items() if one == scored)
    return replace(left, classes=classes), replace(right, names=names)


@dataclass(frozen=True)
class _Side:
    """The training items of one modality: sorted keys, names of their groups, vectors."""

    keys: npt.NDArray[np.str_]
    groups: npt.NDArray[np.str_]
    vectors: dict[str, npt.NDArray[np.float32]]
    cnn: dict[str, bool]
    tokens: dict[str, int]


def _side(
    store: Store, here: Filter, modality: str, encoded: tuple[EncoderRef, ...], more: pa.Table | None = None
) -> _Side:
    where = here & eq("modality", modality) & eq("split", TRAIN)
    items = store.read(schemas.ITEMS, ["key", "content_hash", "group"], where)
    if more is not None:
        items = pa.concat_tables([items, more.select(items.column_names).cast(items.schema)])
    items = items.sort_by("key")
    keys, groups = (np.asarray(items[name].to_pylist(), dtype=np.str_) for name in ("key", "group"))
    vectors, found = vectors_of(store, modality, items["content_hash"].to_pylist(), encoded)
    specs = {name: spec_of(name, modality) for name in vectors}
    return _Side(
        keys[found],
        groups[found],
        {name: one[found] for name, one in vectors.items()},
        {name: one.cnn_activations for name, one in specs.items()},
        {name: one.tokens for name, one in specs.items() if one.tokens},
    )


def _captions(store: Store, here: Filter) -> pa.Table:
    """Generated captions as text items, in the group of the training item that each was made for."""
    items = store.read(schemas.ITEMS, ["key", "group"], here & ne("modality", "text") & eq("split", TRAIN))
    groups = dict(zip(items["key"].to_pylist(), items["group"].to_pylist(), strict=True))
    rows = store.read(schemas.GENERATED, ["key", "item", "content_hash"], here).to_pylist()
    there = [row | {"group": groups[row["item"]]} for row in rows if row["item"] in groups]
    columns = schemas.items()
    return pa.Table.from_pylist(there, pa.schema([columns.field(name) for name in ("key", "content_hash", "group")]))


def generated_mark(store: Store, collections: tuple[str, ...]) -> str:
    """Identity of the generated captions of collections; "" where there is none."""
    rows = store.read(schemas.GENERATED, ["key", "content_hash"], isin("collection", collections)).to_pylist()
    return digest(*sorted(row["key"] + row["content_hash"] for row in rows)) if rows else ""


def _modalities(store: Store, here: Filter, encoded: tuple[EncoderRef, ...]) -> tuple[str, str]:
    """The two encoded modalities that most pairs join."""
    names = {plan.modality for plan in encoded}
    joined = [(n, kind) for kind, n in pair_counts(store, here & eq("source", "given")).items() if set(kind) <= names]
    if not joined:
        raise RunError(
            f"no known pair joins two of the modalities {', '.join(sorted(names))}",
            "name the media and the texts of an item in one row of the metadata",
        )
    return max(joined)[1]


def pair_counts(store: Store, where: Filter) -> Counter[tuple[str, str]]:
    """How many pairs join two different modalities, by both names, the lesser first."""
    counts: Counter[tuple[str, str]] = Counter()
    for batch in store.stream(schemas.PAIRS, ["left_modality", "right_modality"], where):
        counts.update(zip(*(column.to_pylist() for column in batch.columns), strict=True))
    return Counter({kind: n for kind, n in counts.items() if kind[0] != kind[1]})


def vectors_of(
    store: Store, modality: str, contents: list[str], encoded: tuple[EncoderRef, ...]
) -> tuple[dict[str, npt.NDArray[np.float32]], npt.NDArray[np.bool_]]:
    """Vectors {encoder: (n, d)} of contents, and (n,) bool: found under every encoder of the modality."""
    found = np.ones(len(contents), np.bool_)
    vectors: dict[str, npt.NDArray[np.float32]] = {}
    for plan in encoded:
        if plan.modality == modality:
            vectors[plan.encoder], there = store.vectors(plan.table, contents)
            found &= there
    return vectors, found


def place_of(keys: npt.NDArray[np.str_], wanted: list[str]) -> npt.NDArray[np.int64]:
    """Places of `wanted` in the sorted `keys`, -1 where absent."""
    if not len(keys):
        return np.full(len(wanted), -1, np.int64)
    names = np.asarray(wanted, dtype=keys.dtype)
    place = np.minimum(np.searchsorted(keys, names), len(keys) - 1)
    return np.where(keys[place] == names, place, -1).astype(np.int64)

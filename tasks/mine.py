"""Find pairs among the unpaired training items by similarity search, and write them with their provenance."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from prefect import task

from config.params import AlignParams, MineParams
from storage import schemas
from storage.filters import eq, isin
from storage.marks import remembered
from storage.tables import Store
from storage.workspace import Workspace
from tasks.align import TRAIN, TrainingSet, load_training, open_space, plan_of, vectors_of
from tasks.alignment.fit import hidden_folds
from tasks.alignment.space import JointSpace
from tasks.mining.pairs import Matches, mutual_neighbours
from tasks.mining.precision import Hidden, Precision
from tasks.policies import RETRY, code_version
from tasks.refs import EncoderRef, Mined, SpaceRef
from tasks.sources.item import bucket_of, digest, pair_key
from tasks.spent import spending

Array = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]

_CODE = ("tasks/mine.py", "tasks/mining", "tasks/retrieval", "tasks/alignment")


@task(name="mine pairs", task_run_name="mine pairs in {space.name} by {params.score}", **RETRY)
@spending("mine")
def mine_pairs(
    workspace: Workspace,
    space: SpaceRef,
    collections: tuple[str, ...],
    encoded: tuple[EncoderRef, ...],
    params: MineParams,
    refresh: bool = False,  # noqa: FBT001, FBT002 - a task's parameters are its form
) -> Mined:
    """Mutual nearest neighbours among training items without a known pair, in the given space."""
    return remembered(
        workspace.store,
        f"mine {' '.join(collections)}",
        (schemas.ITEMS, schemas.PAIRS, *(one.table for one in encoded)),
        f"{space.space_id} {params.model_dump_json()} {code_version(*_CODE)}",
        Mined,
        lambda: _mine(workspace.store, space, collections, encoded, params),
        anew=refresh,
    )


def _mine(
    store: Store, space: SpaceRef, collections: tuple[str, ...], encoded: tuple[EncoderRef, ...], params: MineParams
) -> Mined:
    joint, config = open_space(space.path)
    here = isin("collection", collections)
    paired = {
        key
        for batch in store.stream(schemas.PAIRS, ["left", "right"], here & eq("source", "given"))
        for column in batch.columns
        for key in column.to_pylist()
    }
    keys, vectors = zip(*(_unpaired(store, collections, name, paired, encoded) for name in space.base), strict=True)
    projected = [joint.project(name, one) for name, one in zip(space.base, vectors, strict=True)]
    training = load_training(store, collections, encoded, names=space.base)
    search = partial(
        mutual_neighbours, k=params.k, score=params.score, min_margin=params.min_margin, hubness_k=joint.hubness_k
    )
    found = search(*projected, anchors=_anchors(joint, training, params))
    names = space.base
    rows = []
    for i, j, score, margin in zip(*(column.tolist() for column in found), strict=True):
        left, right = keys[0][i], keys[1][j]
        rows.append(
            {
                "key": pair_key(left, right, "mined"),
                "collection": collections[0],
                "left": left,
                "right": right,
                "left_modality": names[0],
                "right_modality": names[1],
                "source": "mined",
                "round": 1,
                "score": score,
                "margin": margin,
                "weight": 1.0,
                "method": f"mutual-{params.score}@{params.k} in {space.space_id}",
                "row_bucket": bucket_of(left),
            }
        )
    store.delete(schemas.PAIRS, here & eq("source", "mined"))
    store.upsert(schemas.PAIRS, schemas.pairs(), rows)
    right = _precision(training, config, params, search)
    return Mined(
        mined=len(rows),
        digest=digest(*sorted(row["key"] for row in rows)),
        precision=right.value,
        interval=right.interval(),
        judged=right.judged,
    )


def _precision(
    training: TrainingSet, config: dict[str, Any], params: MineParams, search: Callable[..., Matches]
) -> Precision:
    """Estimated from given pairs that are hidden among the unpaired items, fold by fold."""
    plan = plan_of(AlignParams.model_validate(config["params"]))

    def mine(fold: Hidden, left: Indices, right: Indices) -> Matches:
        some = _some(fold.train, params)
        anchors = (fold.x[some[:, 0]], fold.y[some[:, 1]]) if params.score == "kl" else None
        return search(fold.x[left], fold.y[right], anchors=anchors)

    folds = hidden_folds(training.left, training.right, training.pairs, plan, config["facts"]["chosen"])
    return Precision.estimate(folds, training.pairs, mine)


def _anchors(joint: JointSpace, training: TrainingSet, params: MineParams) -> tuple[Array, Array] | None:
    """Given training pairs in the space, left and right; None where the similarity needs none."""
    if params.score != "kl":
        return None
    chosen = _some(training.pairs, params)
    left, right = (
        joint.project(view.modality, {name: one[chosen[:, side]] for name, one in view.vectors.items()})
        for side, view in enumerate((training.left, training.right))
    )
    return left, right


def _some(pairs: Indices, params: MineParams) -> Indices:
    """All pairs, or some drawn by seed."""
    return np.asarray(pairs[np.random.default_rng(params.seed).permutation(len(pairs))[: params.anchors]])


def _unpaired(
    store: Store, collections: tuple[str, ...], modality: str, paired: set[str], encoded: tuple[EncoderRef, ...]
) -> tuple[list[str], dict[str, Array]]:
    where = isin("collection", collections) & eq("modality", modality) & eq("split", TRAIN)
    items = [
        row for row in store.read(schemas.ITEMS, ["key", "content_hash"], where).to_pylist() if row["key"] not in paired
    ]
    items.sort(key=lambda row: str(row["key"]))
    vectors, found = vectors_of(store, modality, [row["content_hash"] for row in items], encoded)
    keys = [row["key"] for row, there in zip(items, found, strict=True) if there]
    return keys, {name: one[found] for name, one in vectors.items()}

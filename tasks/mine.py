"""Find pairs among the unpaired training items by similarity search, and write them with their provenance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from prefect import task

from config.params import AlignParams, MineParams
from storage import schemas
from storage.filters import eq, isin
from storage.marks import remembered
from storage.scratch import Scratch
from storage.tables import Store
from storage.workspace import Workspace
from tasks.align import TRAIN, TrainingSet, load_training, open_space, plan_of, vectors_of
from tasks.alignment.fit import hidden_folds
from tasks.alignment.space import JointSpace
from tasks.mining.pairs import Matches, mutual_neighbours
from tasks.mining.precision import Hidden, Precision
from tasks.policies import RETRY, code_version
from tasks.project import portions
from tasks.refs import EncoderRef, Mined, SpaceRef
from tasks.retrieval.knn import blocks
from tasks.sources.item import bucket_of, digest, pair_key
from tasks.spent import spending

Array = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]

_CODE = ("tasks/mine.py", "tasks/mining", "tasks/retrieval", "tasks/alignment")
_PAIRS = 50_000  # written at once


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
        lambda: _mine(workspace, space, collections, encoded, params),
        anew=refresh,
    )


def _mine(
    workspace: Workspace,
    space: SpaceRef,
    collections: tuple[str, ...],
    encoded: tuple[EncoderRef, ...],
    params: MineParams,
) -> Mined:
    store = workspace.store
    joint, config = open_space(space.path)
    here = isin("collection", collections)
    training = partial(load_training, store, collections, encoded, names=space.base)
    search = partial(
        mutual_neighbours, k=params.k, score=params.score, min_margin=params.min_margin, hubness_k=joint.hubness_k
    )
    with Scratch(workspace.root, joint.dim) as left, Scratch(workspace.root, joint.dim) as right:
        given = store.read(schemas.PAIRS, ["left", "right"], here & eq("source", "given"))
        paired = pa.chunked_array([chunk for column in given.columns for chunk in column.chunks], pa.string())
        keys = [
            _unpaired(store, joint, collections, name, paired, encoded, vectors)
            for name, vectors in zip(space.base, (left, right), strict=True)
        ]
        found = search(left, right, anchors=_anchors(joint, training, params))
    store.delete(schemas.PAIRS, here & eq("source", "mined"))
    written: list[str] = []
    for part in blocks(len(found.left), 1, _PAIRS):
        some = Matches(found.left[part], found.right[part], found.score[part], found.margin[part])
        rows = _rows(some, keys, space, collections[0], params)
        store.upsert(schemas.PAIRS, schemas.pairs(), rows)
        written += [row["key"] for row in rows]
    right_ones = _precision(training(), config, params, search)
    return Mined(
        mined=len(written),
        digest=digest(*sorted(written)),
        precision=right_ones.value,
        interval=right_ones.interval(),
        judged=right_ones.judged,
    )


def _rows(
    found: Matches, keys: Sequence[pa.ChunkedArray], space: SpaceRef, collection: str, params: MineParams
) -> list[dict[str, Any]]:
    """Matches of rows as rows of the table of pairs."""
    ends = (side.take(pa.array(rows)).to_pylist() for side, rows in zip(keys, found[:2], strict=True))
    return [
        {
            "key": pair_key(left, right, "mined"),
            "collection": collection,
            "left": left,
            "right": right,
            "left_modality": space.base[0],
            "right_modality": space.base[1],
            "source": "mined",
            "round": 1,
            "score": score,
            "margin": margin,
            "weight": 1.0,
            "method": f"mutual-{params.score}@{params.k} in {space.space_id}",
            "row_bucket": bucket_of(left),
        }
        for left, right, score, margin in zip(*ends, found.score.tolist(), found.margin.tolist(), strict=True)
    ]


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


def _anchors(joint: JointSpace, training: Callable[[], TrainingSet], params: MineParams) -> tuple[Array, Array] | None:
    """Given training pairs in the space, left and right; None where the similarity needs none."""
    if params.score != "kl":
        return None
    known = training()
    chosen = _some(known.pairs, params)
    left, right = (
        joint.project(view.modality, {name: one[chosen[:, side]] for name, one in view.vectors.items()})
        for side, view in enumerate((known.left, known.right))
    )
    return left, right


def _some(pairs: Indices, params: MineParams) -> Indices:
    """All pairs, or some drawn by seed."""
    return np.asarray(pairs[np.random.default_rng(params.seed).permutation(len(pairs))[: params.anchors]])


def _unpaired(
    store: Store,
    joint: JointSpace,
    collections: tuple[str, ...],
    modality: str,
    paired: pa.ChunkedArray,
    encoded: tuple[EncoderRef, ...],
    into: Scratch,
) -> pa.ChunkedArray:
    """Put the vectors of the items that are not `paired` into a scratch file, in the space, a range at a time.

    Gives their keys, in order.
    """
    where = isin("collection", collections) & eq("modality", modality) & eq("split", TRAIN)
    items = store.read(schemas.ITEMS, ["key", "content_hash"], where)
    items = items.filter(pc.invert(pc.is_in(items["key"], paired))).sort_by("key")
    keys = []
    for part in portions(items, joint.heads[modality]):
        vectors, found = vectors_of(store, modality, part["content_hash"].to_pylist(), encoded)
        into.append(joint.project(modality, {name: one[found] for name, one in vectors.items()}))
        keys.append(part["key"].filter(pa.array(found)).combine_chunks())
    return pa.chunked_array(keys, pa.string())

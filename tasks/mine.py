"""Find pairs among the unpaired training items by similarity search, and write them with their provenance."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from prefect import task

from config.params import MineParams
from storage import schemas
from storage.filters import eq, isin
from storage.marks import remembered
from storage.tables import Store
from storage.workspace import Workspace
from tasks.align import TRAIN, load_training, open_space, vectors_of
from tasks.alignment.space import JointSpace
from tasks.mining.pairs import mutual_neighbours
from tasks.policies import RETRY, code_version
from tasks.refs import EncoderRef, Mined, SpaceRef
from tasks.sources.item import bucket_of, digest, pair_key

Array = npt.NDArray[np.float32]

_CODE = ("tasks/mine.py", "tasks/mining", "tasks/retrieval")


@task(name="mine pairs", task_run_name="mine pairs in {space.name} by {params.score}", **RETRY)
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
    joint, _ = open_space(space.path)
    here = isin("collection", collections)
    paired = {
        key
        for batch in store.stream(schemas.PAIRS, ["left", "right"], here & eq("source", "given"))
        for column in batch.columns
        for key in column.to_pylist()
    }
    keys, vectors = zip(
        *(_unpaired(store, collections, name, paired, encoded) for name in sorted(space.modalities)), strict=True
    )
    projected = [joint.project(name, one) for name, one in zip(sorted(space.modalities), vectors, strict=True)]
    found = mutual_neighbours(
        *projected,
        k=params.k,
        score=params.score,
        anchors=_anchors(store, joint, collections, encoded, params) if params.score == "kl" else None,
        min_margin=params.min_margin,
        hubness_k=joint.hubness_k,
    )
    names = sorted(space.modalities)
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
    return Mined(mined=len(rows), digest=digest(*sorted(row["key"] for row in rows)))


def _anchors(
    store: Store, joint: JointSpace, collections: tuple[str, ...], encoded: tuple[EncoderRef, ...], params: MineParams
) -> tuple[Array, Array]:
    """Given training pairs in the space, by the modalities in order: all of them, or some drawn by seed."""
    training = load_training(store, collections, encoded)
    draw = np.random.default_rng(params.seed)
    chosen = draw.permutation(len(training.pairs))[: params.anchors]
    sides = sorted(
        zip((training.left, training.right), training.pairs[chosen].T, strict=True), key=lambda side: side[0].modality
    )
    left, right = (
        joint.project(view.modality, {name: one[rows] for name, one in view.vectors.items()}) for view, rows in sides
    )
    return left, right


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

"""Near-duplicates by embedding: among the items of a space to be, and between held-out splits and training."""

from __future__ import annotations

import numpy as np
from prefect import task
from prefect.logging import get_run_logger

from config.errors import RunError
from config.params import PreprocessParams
from storage import schemas
from storage.filters import eq, isin
from storage.marks import remembered
from storage.tables import Store
from storage.workspace import Workspace
from tasks.mining.duplicates import Near, clusters, leaks, near_duplicates
from tasks.policies import RETRY, code_version
from tasks.refs import DuplicateReport, EncoderRef, NearCounts, NearPair
from tasks.spent import spending

_CODE = ("tasks/duplicates.py", "tasks/mining/duplicates.py", "tasks/retrieval")
_EXAMPLES, _NAMED, _CHARS = 20, 3, 60
TRAIN = "train"


@task(name="check duplicates", task_run_name="check duplicates of {name}", **RETRY)
@spending("duplicates")
def check_duplicates(
    workspace: Workspace,
    name: str,
    collections: tuple[str, ...],
    encoded: tuple[EncoderRef, ...],
    params: PreprocessParams,
    refresh: bool = False,  # noqa: FBT001, FBT002 - a task's parameters are its form
) -> DuplicateReport:
    """Report near-duplicates within and across splits of what the space `name` is to be fitted on.

    A medium that has one on the other side of the split stops a strict run.
    """
    lead = tuple({one.modality: one for one in reversed(encoded)}.values())  # the first encoder of each modality
    report = remembered(
        workspace.store,
        f"duplicates {' '.join(collections)}",
        (schemas.ITEMS, *(one.table for one in lead)),
        f"{params.near_duplicate} {code_version(*_CODE)}",
        DuplicateReport,
        lambda: find_duplicates(workspace.store, collections, lead, params.near_duplicate),
        anew=refresh,
    )
    if report.media_leaks:
        text = f"{report.media_leaks} held-out media of {name} have a near-duplicate in training"
        if params.strict:
            named = "; ".join(f"{one.left} ~ {one.right} ({one.score:.3f})" for one in report.leaked[:_NAMED])
            mend = "remove them, give both one group, raise preprocess.near_duplicate, or run without preprocess.strict"
            raise RunError(f"{text}: {named}", mend)
        get_run_logger().warning("%s, from a cosine of %.2f on", text, report.threshold)
    return report


def find_duplicates(
    store: Store, collections: tuple[str, ...], encoded: tuple[EncoderRef, ...], threshold: float
) -> DuplicateReport:
    """Near-duplicates of each modality under its encoder. Holds the vectors of one modality, and k pairs an item."""
    counts: dict[str, NearCounts] = {}
    leaked: list[NearPair] = []
    pairs: list[NearPair] = []
    for one in encoded:
        contents, splits = _contents(store, collections, one.modality)
        vectors, found = store.vectors(one.table, contents.tolist())
        contents, training, vectors = contents[found], splits[found], vectors[found]
        near = near_duplicates(vectors, threshold)
        held, train = np.flatnonzero(~training), np.flatnonzero(training)
        across = leaks(vectors[held], vectors[train], threshold)
        across = Near(held[across.left], train[across.right], across.score)
        counts[one.modality] = NearCounts(
            contents=len(contents), pairs=len(near.left), clusters=len(clusters(near, len(contents))),
            leaks=len(across.left),
        )  # fmt: skip
        pairs += _named(store, collections, one.modality, contents, near)
        leaked += _named(store, collections, one.modality, contents, across)
    media_first = sorted(leaked, key=lambda pair: pair.modality == "text")
    return DuplicateReport(threshold=threshold, counts=counts, leaked=tuple(media_first), pairs=tuple(pairs))


def _contents(
    store: Store, collections: tuple[str, ...], modality: str
) -> tuple[np.ndarray[tuple[int], np.dtype[np.str_]], np.ndarray[tuple[int], np.dtype[np.bool_]]]:
    """The distinct contents, sorted, and whether each stands in training; one that stands on both sides does."""
    where = isin("collection", collections) & eq("modality", modality)
    rows = store.read(schemas.ITEMS, ["content_hash", "split"], where)
    contents, back = np.unique(np.asarray(rows["content_hash"].to_pylist(), dtype=np.str_), return_inverse=True)
    training = np.zeros(len(contents), np.bool_)
    training[back[np.asarray(rows["split"].to_pylist(), dtype=np.str_) == TRAIN]] = True
    return contents, training


def _named(
    store: Store,
    collections: tuple[str, ...],
    modality: str,
    contents: np.ndarray[tuple[int], np.dtype[np.str_]],
    near: Near,
) -> list[NearPair]:
    """The nearest pairs, each content by the first of its items: its file or the beginning of its text."""
    left, right = (contents[side[:_EXAMPLES]].tolist() for side in (near.left, near.right))
    where = isin("collection", collections) & eq("modality", modality) & isin("content_hash", sorted({*left, *right}))
    rows = store.read(schemas.ITEMS, ["key", "content_hash", "uri", "text", "split"], where).to_pylist() if left else []
    first = {row["content_hash"]: row for row in sorted(rows, key=lambda row: str(row["key"]), reverse=True)}
    names = {name: str(row["uri"] or row["text"])[:_CHARS] for name, row in first.items()}
    return [
        NearPair(
            modality=modality, left=names[a], right=names[b], splits=(first[a]["split"], first[b]["split"]), score=s
        )
        for a, b, s in zip(left, right, near.score[:_EXAMPLES].tolist(), strict=True)
    ]

"""Is a space still right for the data as it is now? Figures, and the reasons to fit a new one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from prefect import task

from config.params import RefitParams
from storage import schemas
from storage.filters import eq
from storage.marks import remembered
from storage.promotions import history
from storage.spaces import load_lineage
from storage.tables import Store, matrix
from storage.workspace import Workspace
from tasks.align import TRAIN, sketch_of
from tasks.alignment.binding import LEAST
from tasks.alignment.lineage import changed_share, mean_shift
from tasks.policies import RETRY, code_version
from tasks.promote import score_now
from tasks.refs import Aligned, EncoderRef, SpaceRef, Staleness
from tasks.spent import spending

_CODE = ("tasks/staleness.py", "tasks/alignment/lineage.py", "tasks/promote.py", "tasks/heldout.py")


@task(name="assess drift", task_run_name="assess drift of {aligned.space.name} {aligned.space.space_id}", **RETRY)
@spending("drift")
def assess_drift(
    workspace: Workspace, aligned: Aligned, wanted: tuple[EncoderRef, ...], params: RefitParams
) -> Staleness:
    """Compare the training set and the score of a space with those of its fit. `wanted` are the encoders of now."""
    store = workspace.store
    tables = (
        schemas.ITEMS,
        schemas.PAIRS,
        schemas.PROMOTIONS,
        aligned.space.table,
        *(e.table for e in aligned.encoded),
    )
    inputs = f"{aligned.space.space_id} {' '.join(e.table for e in wanted)} {params.model_dump_json()}"
    return remembered(
        store,
        f"drift {aligned.space.table}",
        tables,
        f"{inputs} {code_version(*_CODE)}",
        Staleness,
        lambda: staleness(store, aligned, wanted, params),
    )


def staleness(store: Store, aligned: Aligned, wanted: tuple[EncoderRef, ...], params: RefitParams) -> Staleness:
    """As `assess_drift`."""
    space = aligned.space
    before = load_lineage(Path(space.path))
    kept = {"pairs": space.base} | {f"{name}.pairs": pair for name, pair in _bound_pairs(space).items()}
    changed = {
        pair: changed_share(before[name], sketch_of(store, aligned.collections, pair)) for name, pair in kept.items()
    }
    drift = {name: mean_shift(before[f"{name}.mean"], _mean(store, space.table, name)) for name in space.modalities}
    now, then = score_now(store, aligned), _promoted_score(store, aligned)
    held = {*space.modalities}
    now_held, then_held = ({one for one in many if one.modality in held} for many in (wanted, aligned.encoded))
    reasons = [
        f"encoder {one.encoder} of {one.modality} is new or has changed"
        for one in wanted
        if one in now_held - then_held
    ]
    reasons += [
        f"encoder {one.encoder} of {one.modality} is dropped" for one in aligned.encoded if one in then_held - now_held
    ]
    reasons += _joined_now(store, aligned, wanted)
    differ, there = {one.modality for one in now_held ^ then_held}, {one.modality for one in wanted}
    by_encoders = len(reasons)
    for pair, share in changed.items():
        what = "training pairs" if pair == space.base else f"training pairs of {pair[0]} and {pair[1]}"
        if share > params.new_pairs:
            reasons.append(f"{share:.1%} of its {what} came or went since the fit (limit {params.new_pairs:.0%})")
    reasons += [
        f"its {name} items have drifted: {shift:.3f} (limit {params.drift:.3f})"
        for name, shift in drift.items()
        if shift > params.drift
    ]
    if now is not None and then is not None and then - now > params.fall:
        reasons.append(f"its rsum fell from {then:.1f} to {now:.1f} (limit {params.fall:.0f})")
    return Staleness(
        changed_pairs=max(changed.values()),
        drift=drift,
        rsum=now,
        rsum_promoted=then,
        reasons=tuple(reasons),
        extends=len(reasons) == by_encoders > 0 and differ <= there - {*space.base},
    )


def _joined_now(store: Store, aligned: Aligned, wanted: tuple[EncoderRef, ...]) -> list[str]:
    """Encoded modalities that the space lacks though training pairs join them to it."""
    space, out = aligned.space, []
    for name in sorted({one.modality for one in wanted} - {*space.modalities}):
        pairs = {pivot: (min(name, pivot), max(name, pivot)) for pivot in space.modalities}
        joined = [pivot for pivot, pair in pairs.items() if len(sketch_of(store, aligned.collections, pair)) >= LEAST]
        out += [f"known pairs join {name} to its {' and '.join(joined)}"] if joined else []
    return out


def _bound_pairs(space: SpaceRef) -> dict[str, tuple[str, str]]:
    """Each bound modality with its pivot, by name."""
    return {name: (min(name, pivot), max(name, pivot)) for name, pivot in space.bound.items()}


def _mean(store: Store, table: str, modality: str) -> npt.NDArray[np.float64]:
    """Mean of the projected training items."""
    total: npt.NDArray[np.float64] | None = None
    rows = 0
    for batch in store.stream(table, ["vector"], eq("modality", modality) & eq("split", TRAIN)):
        part = matrix(batch.column(0)).sum(0, dtype=np.float64)
        total = part if total is None else total + part
        rows += batch.num_rows
    return np.zeros(store.schema(table).field("vector").type.list_size) if total is None else total / rows


def _promoted_score(store: Store, aligned: Aligned) -> float | None:
    """Rsum noted when the space was promoted, if it was."""
    scores = [
        one.figures.get("rsum")
        for one in history(store, aligned.space.name)
        if one.event == "promoted" and one.space_id == aligned.space.space_id
    ]
    return scores[-1] if scores else None

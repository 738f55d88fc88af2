"""Evaluate a space on groups it has not seen: both directions, intervals, chance, a shuffled control, hubness."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from prefect import task

from config.errors import RunError, UserError
from config.params import AlignParams, AssessParams
from storage import catalog
from storage.spaces import CALIBRATION, read_json, write_json
from storage.tables import Store
from storage.workspace import Workspace
from tasks.align import TRAIN, fit_training, load_training, vectors_of
from tasks.alignment.fit import shuffled_pairs
from tasks.alignment.space import JointSpace
from tasks.calibrate import calibrate
from tasks.heldout import Direction, Held, both_ways, rsum, rsum_interval
from tasks.metrics import bootstrap
from tasks.metrics import retrieval as metrics
from tasks.metrics.geometry import modality_gap
from tasks.policies import by_content
from tasks.refs import Aligned, GroupReport, ScoreRef
from tasks.slicing import slices
from tasks.sources.groups import HELD_OUT

Array = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]
_CODE = (
    *("tasks/score.py", "tasks/heldout.py", "tasks/calibrate.py", "tasks/slicing.py"),
    *("tasks/metrics", "tasks/retrieval", "tasks/alignment", "tasks/mining/soft.py"),
)
_TRAINED_CONTROLS = 3  # refits where each is a training
_CONTROL_BANK = 1_000  # queries behind the hubness terms of a control: enough where nothing is to be found


@task(name="evaluate", task_run_name="evaluate {aligned.space.name} {aligned.space.space_id}", **by_content(*_CODE))
def evaluate_space(workspace: Workspace, aligned: Aligned, params: AssessParams) -> ScoreRef:
    """Measure the space on its held-out split, keep the figures as metrics.json beside the heads, and give them."""
    start = time.perf_counter()
    store = workspace.store
    space, groups, collections = aligned.space, aligned.groups, aligned.collections
    config = read_json(Path(space.path) / "config.json")
    split = resolve_split(groups, params.split)
    forward, backward = both_ways(store, space, collections, split)
    query, gallery, links = forward.query, forward.gallery, forward.links
    weights = bootstrap.group_weights(int(max(query.groups.max(), gallery.groups.max())) + 1, params.draws, params.seed)
    ways = {way.name: way.report(weights, params.confidence) for way in (forward, backward)}
    controls = _controls(store, aligned, config, (query, gallery), links, params)
    for name, report in ways.items():
        report["control"] = _control([one[name] for one in controls], report["chance"])
    calibrated, kept = calibrate(store, aligned, (forward, backward), split, weights, params)
    for name, report in calibrated.items():
        ways[name]["calibration"] = report
    figures = {
        "schema": 1,
        "name": space.name,
        "space": space.space_id,
        "collections": list(collections),
        "split": split,
        "split_drawn": groups.drawn,
        "method": space.method,
        "dim": space.dim,
        "training_pairs": space.pairs,
        "rsum": rsum(forward.values, backward.values),
        "rsum_interval": list(rsum_interval(forward, backward, weights, params.confidence)),
        "rsum_raw": rsum(forward.raw, backward.raw),
        "confidence": params.confidence,
        "draws": params.draws,
        "seed": params.seed,
        "directions": ways,
        "slices": slices(store, aligned, (forward, backward), split, weights, params),
        "modality_gap": modality_gap(query.vectors, gallery.vectors),
        "ann": aligned.index.index.model_dump(exclude={"tried", "seconds"}) | {"rows": aligned.index.rows},
        "quarantined": {name: catalog.quarantine_counts(store, name) for name in collections},
        "leaks": {"media": groups.media_leaks, "texts": groups.text_leaks, "moved_to_held_out": groups.moved},
        "seen": sorted({one["seen"] for many in config["encoders"].values() for one in many if one["seen"]}),
        "seconds": round(time.perf_counter() - start, 2),
    }
    write_json(Path(space.path) / CALIBRATION, kept)
    path = Path(space.path) / "metrics.json"
    write_json(path, figures)
    return ScoreRef(space_id=space.space_id, split=split, path=str(path), metrics=figures)


def resolve_split(groups: GroupReport, wanted: str) -> str:
    """The split to evaluate on: the wanted one, else test, val, or the held-out groups, whichever is there first."""
    if wanted != "auto":
        if wanted not in groups.splits or wanted == TRAIN:
            there = ", ".join(sorted(set(groups.splits) - {TRAIN})) or "none"
            raise UserError(f"there is no split {wanted!r} to evaluate on", f"held-out splits: {there}")
        return wanted
    found = next((name for name in ("test", "val", HELD_OUT) if name in groups.splits), None)
    if found is None:
        raise RunError("no group is held out, so there is nothing to evaluate on", "declare a split, or add rows")
    return found


def _control(refits: list[dict[str, float]], chance: dict[str, Any]) -> dict[str, Any]:
    """Mean hit rates of the shuffled refits, and whether each lies inside the interval of chance."""
    out: dict[str, Any] = {
        f"hit_rate@{k}": float(np.mean([one[f"hit_rate@{k}"] for one in refits])) for k in metrics.CUTS
    }
    spans = {name: chance[name]["interval"] for name in out}
    inside = all(low <= out[name] <= high for name, (low, high) in spans.items())
    return out | {"refits": len(refits), "at_chance": inside}


def _controls(
    store: Store,
    aligned: Aligned,
    config: dict[str, Any],
    held: tuple[Held, Held],
    links: Indices,
    params: AssessParams,
) -> list[dict[str, dict[str, float]]]:
    """Metrics by direction of refits on shuffled training pairs, with the params and values of the space."""
    training = load_training(store, aligned.collections, aligned.encoded)
    fitted = fit_training(training, AlignParams.model_validate(config["params"]), values=config["facts"]["chosen"])
    raw = [vectors_of(store, one.modality, one.contents, aligned.encoded)[0] for one in held]
    out = []
    trained = config["facts"]["chosen"].get("steps", 0)
    for number in range(min(params.controls, _TRAINED_CONTROLS) if trained else params.controls):
        pairs = shuffled_pairs(training.pairs, training.left.groups, params.seed + number)
        joint = fitted.refit(pairs, _CONTROL_BANK)
        query, gallery = (_again(joint, one, vectors) for one, vectors in zip(held, raw, strict=True))
        ways = (Direction(query, gallery, links), Direction(gallery, query, links[:, ::-1]))
        out.append({way.name: metrics.summary(way.values) for way in ways})
    return out


def _again(joint: JointSpace, held: Held, vectors: dict[str, Array]) -> Held:
    """The same items in another space."""
    z = joint.project(held.modality, vectors)
    return replace(
        held, vectors=z, hubness={name: joint.hubness(z, name) for name in joint.heads if name != held.modality}
    )

"""Evaluate a space on groups it has not seen: every direction, intervals, chance, a shuffled control, hubness."""

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
from tasks.align import TRAIN, fit_training, load_training, open_space, vectors_of
from tasks.alignment.fit import shuffled_pairs
from tasks.alignment.space import JointSpace
from tasks.bind import bound_to, load_binding
from tasks.calibrate import calibrate
from tasks.heldout import Direction, Held, Ways, every_way, rsum, rsum_interval
from tasks.metrics import retrieval as metrics
from tasks.metrics.geometry import modality_gap
from tasks.policies import by_content
from tasks.refs import Aligned, GroupReport, ScoreRef
from tasks.slicing import slices
from tasks.sources.groups import HELD_OUT
from tasks.spent import spending

Array = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]
_CODE = (
    *("tasks/score.py", "tasks/heldout.py", "tasks/calibrate.py", "tasks/slicing.py", "tasks/bind.py"),
    *("tasks/metrics", "tasks/retrieval", "tasks/alignment", "tasks/mining/soft.py"),
)
_TRAINED_CONTROLS = 3  # refits where each is a training
_CONTROL_BANK = 1_000  # queries behind the hubness terms of a control: enough where nothing is to be found


@task(name="evaluate", task_run_name="evaluate {aligned.space.name} {aligned.space.space_id}", **by_content(*_CODE))
@spending("evaluate")
def evaluate_space(workspace: Workspace, aligned: Aligned, params: AssessParams) -> ScoreRef:
    """Measure the space on its held-out split, keep the figures as metrics.json beside the heads, and give them."""
    start = time.perf_counter()
    store = workspace.store
    space, groups, collections = aligned.space, aligned.groups, aligned.collections
    config = read_json(Path(space.path) / "config.json")
    splits = held_out_splits(groups, params.split)
    measured, without = every_way(store, space, collections, splits, params.draws, params.seed)
    base, split, weights = measured[0]
    ways: dict[str, dict[str, Any]] = {}
    kept: dict[str, Any] = {}
    controls = Controls(store, aligned, config, params)
    for pair, own, drawn in measured:
        refits = controls.of(pair)
        calibrated, meaning = calibrate(store, aligned, pair, own, drawn, params)
        kept |= meaning
        for way in pair:
            report = way.report(drawn, params.confidence)
            report["control"] = _control([one[way.name] for one in refits], report["chance"])
            report["calibration"] = calibrated[way.name]
            report["split"] = own
            report["through"] = list(space.through(way.query.modality, way.gallery.modality))
            ways[way.name] = report
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
        "rsum": rsum(*(way.values for way in base)),
        "rsum_interval": list(rsum_interval(base, weights, params.confidence)),
        "rsum_raw": rsum(*(way.raw for way in base)),
        "confidence": params.confidence,
        "draws": params.draws,
        "seed": params.seed,
        "directions": ways,
        "unlinked": [list(names) for names in without],
        "left_out": config["facts"].get("left_out", {}),
        "slices": slices(store, aligned, measured, params),
        "modality_gap": modality_gap(base[0].query.vectors, base[0].gallery.vectors),
        "ann": aligned.index.index.model_dump(exclude={"seconds"}) | {"rows": aligned.index.rows},
        "quarantined": {name: catalog.quarantine_counts(store, name) for name in collections},
        "leaks": {"media": groups.media_leaks, "texts": groups.text_leaks, "moved_to_held_out": groups.moved},
        "seen": sorted({one["seen"] for many in config["encoders"].values() for one in many if one["seen"]}),
        "seconds": round(time.perf_counter() - start, 2),
    }
    write_json(Path(space.path) / CALIBRATION, {"schema": 1, "space": space.space_id, "directions": kept})
    path = Path(space.path) / "metrics.json"
    write_json(path, figures)
    return ScoreRef(space_id=space.space_id, split=split, path=str(path), metrics=figures)


def resolve_split(groups: GroupReport, wanted: str) -> str:
    """The split to evaluate on: the wanted one, else test, val, or the held-out groups, whichever is there first."""
    return held_out_splits(groups, wanted)[0]


def held_out_splits(groups: GroupReport, wanted: str) -> tuple[str, ...]:
    """The splits to evaluate on: the wanted one alone, else those of test, val and the held-out groups that are there.

    Raises `UserError` for one that is not there, `RunError` where none is.
    """
    if wanted != "auto":
        if wanted not in groups.splits or wanted == TRAIN:
            there = ", ".join(sorted(set(groups.splits) - {TRAIN})) or "none"
            raise UserError(f"there is no split {wanted!r} to evaluate on", f"held-out splits: {there}")
        return (wanted,)
    found = tuple(name for name in ("test", "val", HELD_OUT) if name in groups.splits)
    if not found:
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


class Controls:
    """Refits on shuffled training pairs, with the params and values of the space.

    Of the base's heads, or, where a bound modality takes part, of the head that was bound last, in the space as it is.
    """

    def __init__(self, store: Store, aligned: Aligned, config: dict[str, Any], params: AssessParams) -> None:
        self._store, self._aligned, self._params = store, aligned, params
        self._align = AlignParams.model_validate(config["params"])
        self._facts = config["facts"]
        self._refitted: dict[str, list[JointSpace]] = {}

    def of(self, ways: Ways) -> list[dict[str, dict[str, float]]]:
        """Metrics by direction of each refit."""
        held = (ways[0].query, ways[0].gallery)
        raw = [vectors_of(self._store, one.modality, one.contents, self._aligned.encoded)[0] for one in held]
        out = []
        for joint in self._spaces(*(one.modality for one in held)):
            query, gallery = (_again(joint, one, vectors) for one, vectors in zip(held, raw, strict=True))
            again = Direction(query, gallery, ways[0].links), Direction(gallery, query, ways[1].links)
            out.append({way.name: metrics.summary(way.values) for way in again})
        return out

    def _spaces(self, *names: str) -> list[JointSpace]:
        bound = [name for name in self._aligned.space.modalities if name in names and name in self._aligned.space.bound]
        last = bound[-1] if bound else ""
        if last not in self._refitted:
            self._refitted[last] = self._shuffled(last)
        return self._refitted[last]

    def _shuffled(self, bound: str) -> list[JointSpace]:
        chosen = (self._facts["bound"][bound] if bound else self._facts)["chosen"]
        trained = chosen.get("steps", 0) or (chosen.get("rounds", 0) and bound)
        count = min(self._params.controls, _TRAINED_CONTROLS) if trained else self._params.controls
        store, collections, encoded = self._store, self._aligned.collections, self._aligned.encoded
        if bound:
            joint, _ = open_space(self._aligned.space.path)
            pivot = self._aligned.space.bound[bound]
            found = load_binding(store, collections, encoded, joint, bound, pivot, self._align.seed)
            fitted, pairs, groups = bound_to(joint, found, self._align, chosen), found.pairs, found.view.groups
        else:
            training = load_training(store, collections, encoded, names=self._aligned.space.base)
            fitted = fit_training(training, self._align, values=chosen)
            pairs, groups = training.pairs, training.left.groups
        return [
            fitted.refit(shuffled_pairs(pairs, groups, self._params.seed + number), _CONTROL_BANK)
            for number in range(count)
        ]


def _again(joint: JointSpace, held: Held, vectors: dict[str, Array]) -> Held:
    """The same items in another space."""
    z = joint.project(held.modality, vectors)
    return replace(
        held, vectors=z, hubness={name: joint.hubness(z, name) for name in joint.heads if name != held.modality}
    )

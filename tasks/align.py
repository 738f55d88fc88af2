"""Fit a joint space on the known pairs of a collection's training groups, and keep its heads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from prefect import task
from prefect.logging import get_run_logger

from config.errors import RunError, UserError
from config.params import AlignParams
from storage import schemas
from storage.filters import Filter, eq, isin
from storage.spaces import load_space, save_space, slug_of
from storage.tables import Store
from storage.workspace import Workspace
from tasks.alignment.fit import Fitted, View, fit_space
from tasks.alignment.lineage import pair_sketch
from tasks.alignment.plan import HeadPlan, Plan
from tasks.alignment.space import JointSpace
from tasks.encode import spec_of
from tasks.policies import by_content
from tasks.refs import EncoderRef, MiningRound, SpaceRef
from tasks.sources.item import digest

_CODE = (
    *("tasks/align.py", "tasks/alignment", "tasks/mining/soft.py", "tasks/retrieval"),
    *("tasks/metrics/retrieval.py", "storage/spaces.py"),
)
TRAIN = "train"


@dataclass(frozen=True)
class TrainingSet:
    """The items of two modalities that pairs join, with their vectors, and the pairs as row numbers."""

    left: View
    right: View
    pairs: npt.NDArray[np.int64]


@task(name="fit space", task_run_name="fit space {name} by {params.method}", **by_content(*_CODE))
def fit(
    workspace: Workspace,
    name: str,
    collections: tuple[str, ...],
    content: str,
    encoded: tuple[EncoderRef, ...],
    params: AlignParams,
    mined: str = "",
) -> SpaceRef:
    """Fit the heads on the training pairs; `content` and `mined` identify items, groups and pairs for the cache."""
    training = load_training(workspace.store, collections, encoded, mined=bool(mined))
    fitted = fit_training(training, params)
    space_id = space_id_of(name, content, encoded, params, mined)
    folder = workspace.spaces / slug_of(name) / space_id
    config = fitted.space.config() | {
        "name": name,
        "space_id": space_id,
        "collections": list(collections),
        "params": params.model_dump(mode="json"),
        "encoders": encoder_facts(encoded),
    }
    lineage = lineage_of(workspace.store, collections, training, fitted.space)
    save_space(folder, fitted.space.arrays(), config, card(config), lineage)
    facts = fitted.space.facts
    get_run_logger().info("space %s: %s with %s %s", space_id, facts["method"], facts["chosen"], facts["why"])
    return SpaceRef(
        name=name,
        space_id=space_id,
        path=str(folder),
        table=f"space_{slug_of(name)}_{space_id[:8]}",
        modalities=tuple(fitted.space.heads),
        dim=fitted.space.dim,
        method=facts["method"],
        pairs=len(training.pairs),
        why=facts["why"],
        rounds=rounds_of(facts),
    )


def rounds_of(facts: Mapping[str, Any]) -> tuple[MiningRound, ...]:
    """The rounds of pseudo-pairs that the method has tried, and which it kept; `auto` has tried other methods too."""
    own = [one for one in facts["tried"] if one.get("method", facts["method"]) == facts["method"]]
    scores = {one["rounds"]: one["rsum"] for one in own if "rounds" in one}
    kept = facts["chosen"].get("rounds", 0)
    return tuple(
        MiningRound(number=n, before=scores[n - 1], after=scores[n], accepted=n <= kept) for n in sorted(scores) if n
    )


def space_id_of(name: str, content: str, encoded: tuple[EncoderRef, ...], params: AlignParams, mined: str = "") -> str:
    """Identity of a space: what it is fitted on, and how."""
    return digest("space", name, content, mined, params.model_dump_json(), *(plan.table for plan in encoded))[:16]


def lineage_of(
    store: Store, collections: tuple[str, ...], training: TrainingSet, space: JointSpace
) -> dict[str, npt.NDArray[Any]]:
    """What a later look compares with: a sketch of the training pairs, the mean training item of each modality."""
    views = (training.left, training.right)
    names = (training.left.modality, training.right.modality)
    return {"pairs": sketch_of(store, collections, names)} | {
        f"{view.modality}.mean": space.project(view.modality, view.vectors).mean(0, dtype=np.float64) for view in views
    }


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
    return Plan(**params.model_dump(exclude={"heads"}), heads=HeadPlan(**params.heads.model_dump()))


def open_space(path: str) -> tuple[JointSpace, dict[str, Any]]:
    """The space in a folder, and its config."""
    from pathlib import Path

    arrays, config = load_space(Path(path))
    return JointSpace.load(arrays, config), config


def load_training(
    store: Store, collections: tuple[str, ...], encoded: tuple[EncoderRef, ...], *, mined: bool = False
) -> TrainingSet:
    """The pairs whose both ends lie in training groups and have vectors under every encoder of their modality."""
    here = isin("collection", collections)
    names = _modalities(store, here, encoded)
    links = eq("left_modality", names[0]) & eq("right_modality", names[1]) & here
    if not mined:
        links = links & eq("source", "given")
    pairs = store.read(schemas.PAIRS, ["left", "right"], links)
    sides = [_side(store, here, name, encoded) for name in names]
    columns = zip(sides, ("left", "right"), strict=True)
    ends = np.stack([place_of(side.keys, pairs[column].to_pylist()) for side, column in columns], 1)
    ends = ends[(ends >= 0).all(1)]
    if not len(ends):
        raise RunError(
            f"no pair of {names[0]} and {names[1]} lies in the training split of {', '.join(collections)}",
            "declare pairs in the metadata, or check the split column",
        )
    numbers = np.unique(np.concatenate([side.groups for side in sides]), return_inverse=True)[1]
    left, right = (
        View(name, side.vectors, side.cnn, part, side.tokens)
        for name, side, part in zip(names, sides, np.split(numbers, [len(sides[0].keys)]), strict=True)
    )
    return TrainingSet(left, right, np.unique(ends, axis=0))


@dataclass(frozen=True)
class _Side:
    """The training items of one modality: sorted keys, names of their groups, vectors."""

    keys: npt.NDArray[np.str_]
    groups: npt.NDArray[np.str_]
    vectors: dict[str, npt.NDArray[np.float32]]
    cnn: dict[str, bool]
    tokens: dict[str, int]


def _side(store: Store, here: Filter, modality: str, encoded: tuple[EncoderRef, ...]) -> _Side:
    where = here & eq("modality", modality) & eq("split", TRAIN)
    items = store.read(schemas.ITEMS, ["key", "content_hash", "group"], where).sort_by("key")
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


def _modalities(store: Store, here: Filter, encoded: tuple[EncoderRef, ...]) -> tuple[str, str]:
    """The two encoded modalities that most pairs join."""
    names = {plan.modality for plan in encoded}
    counts: Counter[tuple[str, str]] = Counter()
    for batch in store.stream(schemas.PAIRS, ["left_modality", "right_modality"], here):
        counts.update(zip(*(column.to_pylist() for column in batch.columns), strict=True))
    joined = [(n, kind) for kind, n in counts.items() if kind[0] != kind[1] and set(kind) <= names]
    if not joined:
        raise RunError(
            f"no known pair joins two of the modalities {', '.join(sorted(names))}",
            "name the media and the texts of an item in one row of the metadata",
        )
    return max(joined)[1]


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


def encoder_facts(encoded: tuple[EncoderRef, ...]) -> dict[str, list[dict[str, Any]]]:
    """What a space must remember of its encoders: table, description, licence, what they have seen."""
    out: dict[str, list[dict[str, Any]]] = {}
    for plan in encoded:
        about = asdict(spec_of(plan.encoder, plan.modality))
        kept = {key: about[key] for key in ("name", "dim", "revision", "licence", "pooling", "languages", "seen")}
        out.setdefault(plan.modality, []).append(kept | {"table": plan.table})
    return out


def card(config: dict[str, Any]) -> str:
    """The space's card: what it is, what made it, what it may be used for."""
    facts = config["facts"]
    sources = ", ".join(config["collections"])
    lines = [
        f"# Joint space {config['name']} ({config['space_id']})",
        "",
        f"Heads by {facts['method']} on {facts['pairs']:,} known pairs of {sources}; width {config['dim']}.",
        f"Chosen by cross-validation over groups: {facts['chosen'] or 'nothing to choose'}.",
        "",
        "| modality | encoder | width | licence | seen in training |",
        "|---|---|---|---|---|",
    ]
    for modality, encoders in config["encoders"].items():
        lines += [
            f"| {modality} | {one['name']} | {one['dim']} | {one['licence']} | {one['seen'] or 'not stated'} |"
            for one in encoders
        ]
    lines += ["", "Metrics stand beside this card in metrics.json once the space has been assessed."]
    return "\n".join(lines) + "\n"

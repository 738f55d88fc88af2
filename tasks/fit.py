"""Fit a joint space on the known pairs of a collection, or extend one by further modalities, and keep its heads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from prefect import task
from prefect.logging import get_run_logger

from config.errors import UserError
from config.params import AlignParams
from storage.spaces import PSEUDO_PAIRS_FILE, load_lineage, load_pseudo_pairs, load_space, save_space, slug_of
from storage.tables import Store
from storage.workspace import Workspace
from tasks.align import TrainingSet, fit_training, load_training, sketch_of
from tasks.alignment.space import JointSpace
from tasks.bind import Bindings, bind_others
from tasks.encode import spec_of
from tasks.leaning import named_leaning
from tasks.policies import by_content
from tasks.refs import EncoderRef, MiningRound, SpaceRef
from tasks.sources.item import digest
from tasks.spent import spending

_CODE = (
    *("tasks/align.py", "tasks/bind.py", "tasks/fit.py", "tasks/leaning.py", "tasks/alignment", "tasks/mining/soft.py"),
    *("tasks/retrieval", "tasks/metrics/retrieval.py", "storage/spaces.py"),
)


@task(name="fit space", task_run_name="fit space {name} by {params.method}", **by_content(*_CODE))
@spending("fit")
def fit(
    workspace: Workspace,
    name: str,
    collections: tuple[str, ...],
    content: str,
    encoded: tuple[EncoderRef, ...],
    params: AlignParams,
    mined: str = "",
    generated: str = "",
) -> SpaceRef:
    """Fit the heads on the training pairs; `content`, `mined` and `generated` identify these for the cache."""
    store = workspace.store
    training = load_training(store, collections, encoded, mined=bool(mined), generated=bool(generated))
    fitted = fit_training(training, params)
    bound = bind_others(store, collections, encoded, fitted.space, params)
    lineage = lineage_of(store, collections, training, fitted.space)
    space_id = space_id_of(name, content, encoded, params, mined + generated)
    pseudo_pairs = named_leaning(fitted.leaning, training.items)
    return _keep(workspace, name, space_id, collections, encoded, params, bound, lineage, pseudo_pairs)


@task(name="extend space", task_run_name="extend space {before.name} {before.space_id}", **by_content(*_CODE))
@spending("fit")
def extend(
    workspace: Workspace,
    before: SpaceRef,
    collections: tuple[str, ...],
    content: str,
    encoded: tuple[EncoderRef, ...],
    strict: bool = False,  # noqa: FBT001, FBT002 - a task's parameters are its form
) -> SpaceRef:
    """A space with the heads of another one, bit for bit, and heads for the modalities whose encoders it lacks.

    `content` identifies items, groups and pairs for the cache. With `strict` it is a `UserError` to add nothing.
    """
    arrays, config = load_space(Path(before.path))
    kept = JointSpace.load(arrays, config).without(to_bind(before, config, encoded))
    params = AlignParams.model_validate(config["params"])
    bound = bind_others(workspace.store, collections, encoded, kept, params)
    if strict and bound.space.heads.keys() == kept.heads.keys():
        why = "; ".join(bound.left_out.values()) or "every encoded modality is in it, under the same encoders"
        raise UserError(f"there is nothing to add to the space {before.name}: {why}", "ingest it with its known pairs")
    lineage = {
        name: one
        for name, one in load_lineage(Path(before.path)).items()
        if name == "pairs" or name.partition(".")[0] in kept.heads
    }
    pseudo_pairs = load_pseudo_pairs(Path(before.path))
    pseudo_pairs = pseudo_pairs.filter(pc.is_in(pseudo_pairs["bound"], pa.array(["", *kept.bound])))
    space_id = extended_id(before, content, encoded)
    return _keep(workspace, before.name, space_id, collections, encoded, params, bound, lineage, pseudo_pairs)


def to_bind(before: SpaceRef, config: Mapping[str, Any], encoded: tuple[EncoderRef, ...]) -> set[str]:
    """Bound modalities of a space that are to be bound anew: their encoders, or those of their pivot, differ.

    Raises `UserError` where those of its base differ: then a new space is due.
    """
    wanted: dict[str, list[str]] = {}
    for one in encoded:
        wanted.setdefault(one.modality, []).append(one.table)
    out: set[str] = set()
    for modality in before.modalities:
        tables = [one["table"] for one in config["encoders"][modality]]
        if wanted.get(modality) != tables or before.bound.get(modality) in out:
            out.add(modality)
    if changed := sorted(out - before.bound.keys()):
        raise UserError(
            f"the encoders of {changed[0]} are not those of the space {before.name}",
            "name the same ones, or fit a new space with `modalign align`",
        )
    return out


def _keep(
    workspace: Workspace,
    name: str,
    space_id: str,
    collections: tuple[str, ...],
    encoded: tuple[EncoderRef, ...],
    params: AlignParams,
    bound: Bindings,
    lineage: dict[str, npt.NDArray[Any]],
    pseudo_pairs: pa.Table,
) -> SpaceRef:
    """Save a space with its config, card, lineage and pseudo-pairs; of the encoders those of its modalities."""
    told = {name: one for name, one in bound.space.facts.items() if name != "left_out"}
    space = replace(bound.space, facts=told | ({"left_out": bound.left_out} if bound.left_out else {}))
    folder = workspace.spaces / slug_of(name) / space_id
    config = space.config() | {
        "name": name,
        "space_id": space_id,
        "collections": list(collections),
        "params": params.model_dump(mode="json"),
        "encoders": encoder_facts(tuple(one for one in encoded if one.modality in space.heads)),
    }
    pseudo_pairs = pa.concat_tables([pseudo_pairs, bound.pseudo_pairs])
    save_space(folder, space.arrays(), config, card(config), lineage | bound.lineage, pseudo_pairs)
    facts, logger = space.facts, get_run_logger()
    logger.info("space %s: %s with %s %s", space_id, facts["method"], facts["chosen"], facts["why"])
    for modality, about in facts.get("bound", {}).items():
        text = "space %s: %s bound through %s on %s pairs by %s with %s; %s"
        what = (about["pivot"], f"{about['pairs']:,}", about["method"], about["chosen"], about["why"])
        logger.info(text, space_id, modality, *what)
    for modality, why in bound.left_out.items():
        logger.warning("space %s: %s is left out: %s", space_id, modality, why)
    return SpaceRef(
        name=name,
        space_id=space_id,
        path=str(folder),
        table=f"space_{slug_of(name)}_{space_id[:8]}",
        modalities=tuple(space.heads),
        bound=space.bound,
        dim=space.dim,
        method=facts["method"],
        pairs=facts["pairs"],
        why=facts["why"],
        rounds=rounds_of(facts),
    )


def rounds_of(facts: Mapping[str, Any]) -> tuple[MiningRound, ...]:
    """The rounds of pseudo-pairs that the method has tried, and which it kept; `auto` has tried other methods too.

    Those of bound modalities come after it, kept or not.
    """
    own = _rounds(facts, facts["method"], "")
    bound = facts.get("bound", {})
    return tuple(one for part in (own, *(_rounds(bound[name], "soft", name) for name in bound)) for one in part)


def _rounds(facts: Mapping[str, Any], method: str, modality: str) -> list[MiningRound]:
    tried = [one for one in facts["tried"] if one.get("method", method) == method]
    scores = {one["rounds"]: one["rsum"] for one in tried if "rounds" in one}
    kept = facts["chosen"].get("rounds", 0)
    return [
        MiningRound(
            number=n,
            before=scores[n - 1],
            after=scores[n],
            accepted=n <= kept,
            modality=modality,
            pseudo_pairs=facts.get("pseudo_pairs", 0) if n == kept else 0,
        )
        for n in sorted(scores)
        if n
    ]


def space_id_of(name: str, content: str, encoded: tuple[EncoderRef, ...], params: AlignParams, mined: str = "") -> str:
    """Identity of a space: what it is fitted on, and how."""
    return digest("space", name, content, mined, params.model_dump_json(), *(plan.table for plan in encoded))[:16]


def extended_id(before: SpaceRef, content: str, encoded: tuple[EncoderRef, ...]) -> str:
    """Identity of an extended space: what it extends, and by what."""
    return digest("extended", before.space_id, content, *(plan.table for plan in encoded))[:16]


def lineage_of(
    store: Store, collections: tuple[str, ...], training: TrainingSet, space: JointSpace
) -> dict[str, npt.NDArray[Any]]:
    """What a later look compares with: a sketch of the training pairs, the mean training item of each modality."""
    views = (training.left, training.right)
    names = (training.left.modality, training.right.modality)
    return {"pairs": sketch_of(store, collections, names)} | {
        f"{view.modality}.mean": space.project(view.modality, view.vectors).mean(0, dtype=np.float64) for view in views
    }


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
        *_pseudo_pairs_told(facts),
        f"Chosen by cross-validation over groups: {facts['chosen'] or 'nothing to choose'}.",
        *(line for modality, about in facts.get("bound", {}).items() for line in _bound_told(modality, about)),
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


def _bound_told(modality: str, about: Mapping[str, Any]) -> list[str]:
    said = f"{modality} is bound through {about['pivot']}, by {about['method']} on {about['pairs']:,} known pairs."
    return [said, *_pseudo_pairs_told(about)]


def _pseudo_pairs_told(facts: Mapping[str, Any]) -> list[str]:
    if not facts.get("pseudo_pairs"):
        return []
    of = f"{facts['pseudo_pairs']:,} pseudo-pairs of round {facts['chosen']['rounds']}"
    return [f"{of} count beside these; {PSEUDO_PAIRS_FILE} names the items of each."]

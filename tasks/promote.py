"""The gate: a space takes the place of the one in force only if a paired bootstrap rules out a loss that matters."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from prefect import task
from prefect.logging import get_run_logger

from config.errors import RunError
from config.params import GateParams
from storage.promotions import history, manifest_of, record, was_rolled_back
from storage.spaces import publish
from storage.tables import Store
from storage.workspace import Workspace
from tasks.align import open_space
from tasks.heldout import Held, held_by_heads, resampled_rsum, rsum, ways_of
from tasks.metrics import bootstrap
from tasks.policies import RETRY
from tasks.refs import Aligned, Decision
from tasks.score import held_out_splits, resolve_split
from tasks.spent import spending


@task(name="promote", task_run_name="promote {candidate.space.name} {candidate.space.space_id}", **RETRY)
@spending("promote")
def promote_space(workspace: Workspace, candidate: Aligned, gate: GateParams, rsum: float | None = None) -> Decision:
    """Publish the candidate if the gate lets it pass; record the decision with its figures either way.

    The space in force already is published at its newest version. `rsum` is the candidate's score, for the record.
    """
    decision = decide(workspace.store, candidate, gate)
    if rsum is not None:
        decision = decision.model_copy(update={"figures": decision.figures | {"rsum": rsum}})
    enact(workspace.store, candidate, decision)
    get_run_logger().info(
        "%s %s: %s; %s", candidate.space.name, candidate.space.space_id, decision.event, decision.reason
    )
    return decision


def enact(store: Store, candidate: Aligned, decision: Decision) -> None:
    """Publish and record what was decided."""
    manifest = candidate.model_dump(mode="json")
    if decision.event == "kept":
        publish(store, decision.name, manifest)
        return
    known = history(store, decision.name)
    again = known and (known[-1].event, known[-1].space_id) == ("refused", decision.space_id)
    if decision.event == "refused" and again:
        return  # said once
    record(store, decision.name, decision.event, decision.space_id, decision.reason, decision.figures, manifest)


def decide(store: Store, candidate: Aligned, gate: GateParams) -> Decision:
    """Whether the candidate may be published under its name, and why."""
    space, index = candidate.space, candidate.index.index

    def decided(event: str, reason: str, **figures: Any) -> Decision:
        about = {"recall": index.recall, "recall_target": index.target} | figures
        return Decision.model_validate(
            {"name": space.name, "space_id": space.space_id, "event": event, "reason": reason, "figures": about}
        )

    current = manifest_of(store, space.name)
    if current is not None and current["space"]["space_id"] == space.space_id:
        return decided("kept", "it is the space in force")
    if gate.policy == "never":
        return decided("refused", "the policy is to promote by hand: `modalign promote`")
    if gate.policy == "always":
        return decided("promoted", "the policy is to promote whatever the figures say")
    if index.recall < index.target:
        return decided(
            "refused", f"recall@10 of its index is {index.recall:.3f}, below the target of {index.target:.2f}"
        )
    if current is None:
        return decided("promoted", "it is the first of its name")
    if was_rolled_back(store, space.name, space.space_id):
        return decided("refused", "a person has rolled it back; `modalign promote` brings it back")
    old = Aligned.model_validate(current)
    try:
        found = compare(store, old, candidate, gate)
    except RunError as error:
        return decided("refused", f"it cannot be measured against the space in force: {error.message}")
    low = found.difference_low
    said = found.words(gate)
    further = compare_further(store, old, candidate, gate)
    lost = [names for names, one in further.items() if one.difference_low < -gate.tolerance]
    passed = low >= -gate.tolerance
    said += f"; a loss of {gate.tolerance:.1f} is {'ruled out' if passed else 'not ruled out'}"
    for names in lost:
        said += f", nor between {names[0]} and {names[1]} ({further[names].words(gate)})"
    gone = sorted(set(old.space.modalities) - set(space.modalities))
    if gone:
        said += f"; it lacks {' and '.join(gone)}, which the space in force holds"
    figures = found.figures() | {"tolerance": gate.tolerance}
    if further:
        figures["further"] = {"_and_".join(names): one.figures() for names, one in further.items()}
    return decided("promoted" if passed and not lost and not gone else "refused", said, **figures)


@dataclass(frozen=True)
class Comparison:
    """Two spaces on the same held-out queries and galleries. `difference` is new − old in rsum, 0 to 600."""

    split: str
    old: float
    new: float
    difference: float
    difference_low: float
    difference_high: float
    queries: int
    groups: int
    agreement: float

    def figures(self) -> dict[str, Any]:
        """JSON-able."""
        return dict(self.__dict__)

    def words(self, gate: GateParams) -> str:
        """What was found, in words."""
        return (
            f"rsum {self.new:.1f} against {self.old:.1f} on the same {self.queries:,} queries of {self.groups:,} "
            f"held-out groups: {self.difference:+.1f}, with {gate.confidence:.0%} confidence no less than "
            f"{self.difference_low:+.1f}"
        )


def compare_further(store: Store, old: Aligned, new: Aligned, gate: GateParams) -> dict[tuple[str, str], Comparison]:
    """As `compare`, between any other two modalities that both spaces hold and held-out pairs join, by their names."""
    shared = set(old.space.modalities) & set(new.space.modalities)
    out: dict[tuple[str, str], Comparison] = {}
    for names in new.space.further:
        for split in held_out_splits(new.groups, "auto") if shared >= set(names) else ():
            try:
                out[names] = compare(store, old, new, gate, names, split)
                break
            except RunError:  # no pair of this split joins them
                continue
    return out


def compare(
    store: Store,
    old: Aligned,
    new: Aligned,
    gate: GateParams,
    pair: tuple[str, str] | None = None,
    split: str = "auto",
) -> Comparison:
    """Paired bootstrap over held-out groups between two spaces, each by its own heads from the stored embeddings.

    Between two modalities: the base of the new space, or those that are given.

    Only items that have vectors in both count. `difference_low` is the one-sided bound, `difference_high` that of the
    other side; `agreement` the share of queries whose first hit is the same. Raises `RunError` when they share nothing.
    """
    names = sorted(pair or new.space.base, reverse=True)
    if not set(names) <= set(old.space.modalities):
        raise RunError(f"the one in force does not hold {' and '.join(names)}", "promote it by hand")
    split = resolve_split(new.groups, split)
    sides = [_held(store, one, names, split) for one in (old, new)]
    shared = [np.intersect1d(sides[0][name].keys, sides[1][name].keys) for name in names]
    if not all(len(keys) for keys in shared):
        raise RunError("no held-out item has vectors in both", "promote it by hand")
    ways = []
    for side in sides:
        query, gallery = (_only(side[name], keys) for name, keys in zip(names, shared, strict=True))
        ways.append(ways_of(store, new.collections, gallery, query))
    n_groups = 1 + int(max(way.groups.max() for way in ways[0]))
    weights = bootstrap.group_weights(n_groups, gate.draws, gate.seed)
    before, after = (resampled_rsum(pair, weights) for pair in ways)
    low, high = bootstrap.interval(after - before, 2 * gate.confidence - 1)
    scores = [rsum(*(way.values for way in pair)) for pair in ways]
    same = [
        float(np.mean(old_way.first_hits() == new_way.first_hits())) for old_way, new_way in zip(*ways, strict=True)
    ]
    return Comparison(
        split=split,
        old=scores[0],
        new=scores[1],
        difference=scores[1] - scores[0],
        difference_low=low,
        difference_high=high,
        queries=sum(len(way.relevant) for way in ways[0]),
        groups=len(np.unique(np.concatenate([way.groups for way in ways[0]]))),
        agreement=float(np.mean(same)),
    )


def score_now(store: Store, aligned: Aligned) -> float | None:
    """Rsum of a space on the held-out groups as they are now, from its table; None where nothing is held out."""
    names = sorted(aligned.space.base)
    try:
        held = _held(store, aligned, names, resolve_split(aligned.groups, "auto"))
        ways = ways_of(store, aligned.collections, *(held[name] for name in names))
    except RunError:
        return None
    return rsum(*(way.values for way in ways))


def _held(store: Store, aligned: Aligned, names: list[str], split: str) -> dict[str, Held]:
    joint, _ = open_space(aligned.space.path)
    for one in aligned.encoded:
        if not store.exists(one.table):
            raise RunError(f"the embeddings {one.table} of {one.encoder} are gone", "run ingest with this encoder")
    return {name: held_by_heads(store, joint, name, split, aligned.collections, aligned.encoded) for name in names}


def _only(held: Held, keys: npt.NDArray[np.str_]) -> Held:
    """The items with these keys (sorted, all of them there)."""
    rows = np.searchsorted(held.keys, keys)
    return replace(
        held,
        keys=held.keys[rows],
        contents=[held.contents[row] for row in rows.tolist()],
        vectors=held.vectors[rows],
        groups=held.groups[rows],
        hubness={name: terms[rows] for name, terms in held.hubness.items()},
    )

"""The spaces of a workspace: which is in force, what came before, what was refused; and a person's own decisions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from config.errors import UserError
from config.params import GateParams, IndexParams
from storage import schemas
from storage.errors import StorageError
from storage.marks import latest
from storage.promotions import Manifest, Promotion, history, manifest_of, roll_back, stack
from storage.spaces import read_json
from storage.tables import Store
from storage.workspace import Workspace
from tasks.index import index_table
from tasks.project import project
from tasks.promote import Comparison, compare, compare_further, decide, enact
from tasks.refs import Aligned, Decision, Staleness


def list_spaces(workspace: Workspace) -> list[dict[str, Any]]:
    """One row a space: its state, what made it, its score, and why it is stale; newest first within a name."""
    store = workspace.store
    rows = []
    for name in sorted(store.strings(schemas.PUBLISHED, "name")):
        line = stack(store, name)
        current = line[-1]["space"]["space_id"]
        seen = {one["space"]["space_id"]: ("in force" if one is line[-1] else "former", one) for one in line}
        for entry in history(store, name):
            if entry.event == "refused":
                seen.setdefault(entry.space_id, ("refused", entry.manifest))
        order = sorted(seen.items(), key=lambda item: (item[0] == current, _when(store, name, item[0])), reverse=True)
        rows += [_row(store, name, state, manifest) for _, (state, manifest) in order]
    return rows


def _when(store: Store, name: str, space_id: str) -> float:
    times = [entry.at.timestamp() for entry in history(store, name) if entry.space_id == space_id]
    return max(times, default=0.0)


def _row(store: Store, name: str, state: str, manifest: Manifest) -> dict[str, Any]:
    space = Aligned.model_validate(manifest)
    stale = latest(store, f"drift {space.space.table}", Staleness) if state == "in force" else None
    entries = [entry for entry in history(store, name) if entry.space_id == space.space.space_id]
    return {
        "name": name,
        "space": space.space.space_id,
        "state": state,
        "method": space.space.method,
        "pairs": space.space.pairs,
        "pseudo-pairs": sum(one.pseudo_pairs for one in space.space.rounds),
        "bound": ", ".join(f"{name} through {pivot}" for name, pivot in space.space.bound.items()),
        "collections": ", ".join(space.collections),
        "encoders": ", ".join(one.encoder for one in space.encoded),
        "rsum": _rsum(space),
        "recall@10": round(space.index.index.recall, 3),
        "since": entries[-1].at.strftime("%Y-%m-%d %H:%M") if entries else "",
        "why": entries[-1].reason if entries else "",
        "stale because": "; ".join(stale.reasons) if stale is not None else "",
    }


def _rsum(space: Aligned) -> float | None:
    try:
        return round(float(read_json(Path(space.space.path) / "metrics.json")["rsum"]), 1)
    except (OSError, ValueError, KeyError):
        return None


def find(store: Store, wanted: str) -> Aligned:
    """A space by its name (the one in force) or by the beginning of its id. Raises `UserError`."""
    current = manifest_of(store, wanted)
    if current is not None:
        return Aligned.model_validate(current)
    known: dict[str, Manifest] = {}
    for name in store.strings(schemas.PUBLISHED, "name"):
        manifests = [entry.manifest for entry in history(store, name)] + stack(store, name)
        known |= {one["space"]["space_id"]: one for one in manifests}
    found = [manifest for space_id, manifest in known.items() if space_id.startswith(wanted)]
    if len(found) != 1:
        said = "there is no space" if not found else f"{len(found)} spaces begin with"
        raise UserError(f"{said} {wanted!r}", "`modalign spaces` lists them")
    return Aligned.model_validate(found[0])


def promote_by_hand(workspace: Workspace, wanted: str, *, force: bool) -> Decision:
    """Let the gate judge a space and publish it if it passes, or in any case with `force`."""
    store = workspace.store
    candidate = find(store, wanted)
    space = candidate.space
    if not Path(space.path).is_dir():
        raise UserError(f"the space {space.space_id} is gone", "fit it again with `modalign align`")
    if not store.exists(space.table):  # upkeep keeps the heads of one that was refused, and not its table
        project(store, space, candidate.collections, candidate.encoded)
        index = index_table(store, space, IndexParams(kind=candidate.index.index.kind))
        candidate = candidate.model_copy(update={"index": index})
    if force:
        decision = decide(store, candidate, GateParams(policy="always"))
        decision = decision.model_copy(update={"reason": "promoted by hand, whatever the figures say"})
    else:
        decision = decide(store, candidate, GateParams())
    enact(store, candidate, decision)
    return decision


def roll_back_by_hand(workspace: Workspace, name: str | None, reason: str) -> Aligned:
    """Put the former space of a name back in force; without a name that of the only one there is."""
    store = workspace.store
    names = store.strings(schemas.PUBLISHED, "name")
    if name is None and len(names) != 1:
        raise UserError("several spaces are published" if names else "no space is published", "name one of them")
    try:
        return Aligned.model_validate(roll_back(store, name or names[0], reason))
    except StorageError as error:
        raise UserError(error.message, error.mend) from None


def difference(workspace: Workspace, one: str, other: str) -> dict[str, Any]:
    """How two spaces differ: what made them, and the paired bootstrap between them on held-out groups."""
    store = workspace.store
    old, new = find(store, one), find(store, other)
    configs = [read_json(Path(space.space.path) / "config.json") for space in (old, new)]
    lines = [_facts(space, config) for space, config in zip((old, new), configs, strict=True)]
    unlike = {
        key: [lines[0].get(key), lines[1].get(key)]
        for key in lines[0] | lines[1]
        if lines[0].get(key) != lines[1].get(key)
    }
    found: Comparison = compare(store, old, new, GateParams())
    further = compare_further(store, old, new, GateParams())
    return {
        "from": old.space.space_id,
        "to": new.space.space_id,
        "differs": unlike,
        "compared": found.figures(),
        "further": {"_and_".join(names): one.figures() for names, one in further.items()},
    }


def _facts(space: Aligned, config: dict[str, Any]) -> dict[str, Any]:
    params = {f"align.{name}": value for name, value in config["params"].items()}
    chosen = {f"chosen.{name}": value for name, value in config["facts"]["chosen"].items()}
    encoders = {
        f"encoders.{modality}": ", ".join(f"{one['name']} ({one['table']})" for one in many)
        for modality, many in config["encoders"].items()
    }
    about = {
        "pairs": space.space.pairs,
        "width": space.space.dim,
        "collections": ", ".join(space.collections),
        "items": space.index.rows,
        "index": space.index.index.kind,
        "recall@10": round(space.index.index.recall, 4),
    }
    return params | chosen | encoders | about


def entries_of(workspace: Workspace, name: str | None) -> list[Promotion]:
    """The history of a name, or of all, oldest first."""
    return history(workspace.store, name)

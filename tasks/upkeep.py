"""What upkeep deletes: versions, spaces and embeddings that nothing refers to, old results. Nothing that is in use."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from prefect import task

from config.params import KeepParams, PipelineParams
from storage import catalog, schemas
from storage.maintenance import clean, compact, needs_compaction, pin, removable, table_bytes, tagged
from storage.promotions import Manifest, history, stack
from storage.spaces import publish
from storage.tables import Store
from storage.workspace import Workspace
from tasks.encoders.automodel_names import encoder_folder
from tasks.name_classes import NAMES, names_table
from tasks.parts import MOMENTS, PARTS, moments_table, parts_table
from tasks.policies import RETRY
from tasks.refs import Aligned, Upkeep
from tasks.spent import spending

_DAY = 86_400


@task(name="upkeep", task_run_name="upkeep dry_run={dry_run}", **RETRY)
@spending("upkeep")
def keep_up(workspace: Workspace, keep: KeepParams, wanted: tuple[str, ...], dry_run: bool = False) -> Upkeep:  # noqa: FBT001, FBT002
    """Compact, drop and delete by the stated retention; in a dry run only tell.

    `wanted` are tables of vectors, tokens and parts that the recorded collections use. What the published spaces and
    those that a roll-back reaches refer to is never touched. Parts, and moments beside a space, stand while a
    collection keeps any.
    """
    store = workspace.store
    kept = retained(store, keep.spaces)
    freed = {"spaces": 0, "embeddings": 0, "encoders": 0, "versions": 0, "results": 0}
    dropped: list[str] = []
    for folder in _expired_spaces(workspace, kept):
        freed["spaces"] += _drop(folder, dry_run=dry_run)
        dropped.append(f"space {folder.parent.name}/{folder.name}")
    refused = _refused_last(store)
    for name in _unused_tables(store, kept, (*wanted, *(e["table"] for one in refused for e in one["encoded"]))):
        freed["spaces" if name.startswith(("space_", MOMENTS)) else "embeddings"] += table_bytes(store, name)
        dropped.append(f"table {name}")
        if not dry_run:
            store.drop(name)
    for folder in _unused_encoders(workspace, [*kept, *refused]):
        freed["encoders"] += _drop(folder, dry_run=dry_run)
        dropped.append(f"encoder {folder.name}")
    names = [name for name in store.names() if f"table {name}" not in dropped]
    compacted = [n for n in names if needs_compaction(store, n, fragments=keep.fragments, deleted=keep.deleted)]
    if not dry_run:
        for name in compacted:
            compact(store, name, fragments=keep.fragments, deleted=keep.deleted)
        _republish(store, compacted)
    kept = retained(store, keep.spaces)
    for name in names:
        pins = _pins(store, name, kept, keep.versions)
        if dry_run:
            freed["versions"] += removable(store, name, pins)
        else:
            pin(store, name, pins)
            freed["versions"] += clean(store, name)
    freed["results"] = _old_results(workspace, keep.results_days, dry_run=dry_run)
    return Upkeep(dry_run=dry_run, bytes=freed, dropped=tuple(dropped), compacted=tuple(compacted))


def retained(store: Store, spaces: int) -> list[Manifest]:
    """Manifests of the spaces in force, and of those before them that a roll-back may reach."""
    names = sorted(store.strings(schemas.PUBLISHED, "name"))
    return [manifest for name in names for manifest in stack(store, name)[-spaces:]]


def _refused_last(store: Store) -> list[Manifest]:
    """Manifests whose refusal is the last word on their name: they may be promoted yet."""
    last = {entry.name: entry for entry in history(store)}.values()
    return [entry.manifest for entry in last if entry.event == "refused"]


def _expired_spaces(workspace: Workspace, kept: list[Manifest]) -> list[Path]:
    """Folders of heads that no retained manifest names, nor the last refusal of a name: it may be promoted yet."""
    used = {Path(one["space"]["path"]).name for one in [*kept, *_refused_last(workspace.store)]}
    found = [folder for folder in sorted(workspace.spaces.glob("*/*")) if folder.is_dir()]
    return [folder for folder in found if folder.name not in used]


def _unused_tables(store: Store, kept: list[Manifest], wanted: tuple[str, ...]) -> list[str]:
    spaces = {one["space"]["table"] for one in kept}
    used = spaces | {e["table"] for one in kept for e in one["encoded"]} | set(wanted)
    if any(name.startswith(PARTS) for name in wanted):
        used |= {parts_table(name) for name in used if name.startswith("embeddings_")} | set(map(moments_table, spaces))
    used |= {names_table(name) for name in used if name.startswith("embeddings_")}
    kinds = ("space_", "embeddings_", "tokens_", PARTS, MOMENTS, NAMES)
    return [name for name in store.names() if name.startswith(kinds) and name not in used]


def _unused_encoders(workspace: Workspace, manifests: list[Manifest]) -> list[Path]:
    """Folders of encoders trained here that neither these manifests nor the recorded collections name."""
    named = [one["encoder"] for manifest in manifests for one in manifest["encoded"]]
    for row in catalog.collections(workspace.store):
        for encoders in PipelineParams.model_validate_json(row["params"]).encode.encoders.values():
            named += encoders
    used = {encoder_folder(name).name for name in named if name.startswith("local:")}
    return [folder for folder in sorted(workspace.encoders.glob("*")) if folder.name not in used]


def _republish(store: Store, compacted: list[str]) -> None:
    """Point the names whose tables were compacted to the compacted version: its rows are the same."""
    for name in store.strings(schemas.PUBLISHED, "name"):
        current = Aligned.model_validate(stack(store, name)[-1])
        if current.space.table in compacted:
            index = current.index.model_copy(update={"version": store.version(current.space.table)})
            publish(store, name, current.model_copy(update={"index": index}).model_dump(mode="json"))


def _pins(store: Store, name: str, kept: list[Manifest], versions: int) -> set[int]:
    """Versions of a table that must stay: those of manifests, and the last published ones that readers may hold."""
    manifests = {one["index"]["version"] for one in kept if one["index"]["table"] == name}
    return manifests | set(sorted(tagged(store, name))[-versions:])


def _old_results(workspace: Workspace, days: int, *, dry_run: bool) -> int:
    """Cached results that nobody has written for `days`."""
    limit = time.time() - days * _DAY
    old = [path for path in workspace.results.rglob("*") if path.is_file() and path.stat().st_mtime < limit]
    size = sum(path.stat().st_size for path in old)
    if not dry_run:
        for path in old:
            path.unlink()
    return size


def _drop(folder: Path, *, dry_run: bool) -> int:
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    if not dry_run:
        shutil.rmtree(folder)
    return size

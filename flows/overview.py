"""What a workspace holds, as data."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from config.settings import Settings
from storage import catalog, generated, schemas
from storage.errors import StorageError
from storage.filters import eq, ne
from storage.maintenance import table_bytes
from storage.remote import is_remote
from storage.runs import outermost
from storage.spaces import published, read_json
from storage.tables import Store
from storage.told import last_told
from storage.workspace import Workspace
from tasks.parts import PARTS

_RUNS = 3  # the last ones are shown


def overview(settings: Settings) -> dict[str, Any]:
    """Collections with items by modality and split, embeddings tables, published spaces with their scores."""
    workspace = Workspace(root=settings.workspace, tables_uri=settings.tables_uri)
    empty: dict[str, Any] = {
        "workspace": str(workspace.root),
        "tables": workspace.tables,
        "bytes": 0,
        "collections": [],
        "embeddings": [],
        "spaces": [],
        "runs": [],
        "at work": [],
    }
    if not workspace.root.is_dir():
        return empty
    store = workspace.store
    return empty | {
        "bytes": sum(path.stat().st_size for path in workspace.root.rglob("*") if path.is_file())
        + (sum(table_bytes(store, name) for name in store.names()) if is_remote(store.uri) else 0),
        "collections": [_collection(store, row) for row in catalog.collections(store)],
        "embeddings": [
            {"table": name, "vectors": store.count(name), "fingerprint": store.metadata(name)["modalign.fingerprint"]}
            for name in store.names()
            if name.startswith(("embeddings_", "tokens_", PARTS))
        ],
        "spaces": [_space(store, name) for name in sorted(store.strings(schemas.PUBLISHED, "name"))],
        "runs": last_told(workspace.root)[-_RUNS:],
        "at work": [{"what": run.what, "since": run.since, "pid": run.pid} for run in outermost(workspace.root)],
    }


def _collection(store: Store, row: dict[str, Any]) -> dict[str, Any]:
    where = eq("collection", row["name"])
    kinds: Counter[str] = Counter()
    splits: Counter[str] = Counter()
    for batch in store.stream(schemas.ITEMS, ["modality", "split"], where):
        kinds.update(batch.column(0).to_pylist())
        splits.update(batch.column(1).to_pylist())
    return {
        "name": row["name"],
        "source": row["uri"],
        "items": dict(kinds),
        "splits": dict(splits),
        "pairs": store.count(schemas.PAIRS, where & ne("source", generated.GENERATED)),
        "captions": generated.count(store, row["name"]),
        "answers": store.count(schemas.ANSWERS, where),
        "quarantined": catalog.quarantine_counts(store, row["name"]),
    }


def _space(store: Store, name: str) -> dict[str, Any]:
    _, manifest = published(store, name)
    space, index = manifest["space"], manifest["index"]["index"]
    facts = {
        "name": name,
        "space": space["space_id"],
        "modalities": ", ".join(space["modalities"]),
        "method": space["method"],
        "items": manifest["index"]["rows"],
        "index": index["kind"],
        "recall@10": round(index["recall"], 4),
        "split": "",
        "rsum": "not assessed",
        "rsum_raw": "",
    }
    try:
        metrics = read_json(Path(space["path"]) / "metrics.json")
    except (OSError, StorageError):
        return facts
    return facts | {
        "split": metrics["split"],
        "rsum": round(metrics["rsum"], 1),
        "rsum_raw": round(metrics["rsum_raw"], 1),
    }

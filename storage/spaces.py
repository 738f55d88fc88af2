"""Fitted spaces on disk (safetensors and JSON, never pickle), and the names they are published under."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from storage import schemas
from storage.errors import StorageError, on_disk
from storage.filters import eq
from storage.folders import fresh_folder, replace_folder
from storage.maintenance import tag
from storage.tables import Store

CALIBRATION = "calibration.json"
"""What the scores of a space mean, beside its heads; not there before it was assessed."""
PSEUDO_PAIRS = pa.schema(
    [
        pa.field("bound", pa.string(), nullable=False),
        pa.field("round", pa.int32(), nullable=False),
        pa.field("view", pa.int32(), nullable=False),
        pa.field("from_modality", pa.string(), nullable=False),
        pa.field("from_key", pa.string(), nullable=False),
        pa.field("to_modality", pa.string(), nullable=False),
        pa.field("to_key", pa.string(), nullable=False),
        pa.field("weight", pa.float32(), nullable=False),
        pa.field("certainty", pa.float32(), nullable=False),
    ]
)
"""The pseudo-pairs that heads stand on: a row for each unpaired item (`from_`) and each item that it leans on (`to_`).

Keys are those of items as they were when the space was fitted. `bound` is the modality whose head stands on it, empty
for the base. `view` counts from 1; only co-training has two. The weights of a pseudo-pair, which is one `bound`, `view`
and `from_key`, add up to 1; `certainty` (0 to 1) is how much it counts.
"""
PSEUDO_PAIRS_FILE = "pseudo_pairs.parquet"
"""Where they stand, beside the heads."""

Arrays = Mapping[str, npt.NDArray[np.float32]]


def slug_of(name: str) -> str:
    """A name for tables and folders: [a-z0-9-], at most 40 characters; what does not fit is told apart by a hash.

    >>> slug_of("flickr8k"), slug_of("My_Photos")
    ('flickr8k', 'my-photos-3d0a06')
    """
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    if plain and plain == name and len(plain) <= 40:
        return plain
    mark = hashlib.blake2b(name.encode(), digest_size=3).hexdigest()
    return f"{plain[:33].strip('-') or 'space'}-{mark}"


def save_space(
    folder: Path,
    arrays: Arrays,
    config: Mapping[str, Any],
    card: str,
    lineage: Mapping[str, npt.NDArray[Any]] | None = None,
    pseudo_pairs: pa.Table | None = None,
) -> None:
    """Write heads.safetensors, lineage.safetensors, config.json and README.md (the card): all of them, or none.

    pseudo_pairs.parquet too, if there are any. A former space goes.
    """
    import pyarrow.parquet as pq
    from safetensors.numpy import save

    with on_disk(f"the space in {folder}"):
        fresh = fresh_folder(folder)
        # safetensors writes the memory as it lies: that of a transposed array would come back in another order
        heads = save({name: np.asarray(one, order="C") for name, one in arrays.items()})
        (fresh / "heads.safetensors").write_bytes(heads)  # its own writer hides what the disk says
        if lineage is not None:
            (fresh / "lineage.safetensors").write_bytes(save(dict(lineage)))
        if pseudo_pairs is not None and len(pseudo_pairs):
            pq.write_table(pseudo_pairs, fresh / PSEUDO_PAIRS_FILE)
        write_json(fresh / "config.json", config)
        (fresh / "README.md").write_text(card, encoding="utf-8")
        replace_folder(fresh, folder)


def load_space(folder: Path) -> tuple[dict[str, npt.NDArray[np.float32]], dict[str, Any]]:
    """Arrays and config of a space. Raises `StorageError` when the folder is damaged or gone."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(str(folder / "heads.safetensors")), read_json(folder / "config.json")
    except (OSError, SafetensorError, ValueError) as error:  # neither JSON nor UTF-8 is a ValueError
        raise StorageError(f"the space in {folder} cannot be read ({error})", "fit it again with align") from error


def load_lineage(folder: Path) -> dict[str, npt.NDArray[Any]]:
    """What a space remembers of its training set; {} if it keeps none. Raises `StorageError` when it is damaged."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path = folder / "lineage.safetensors"
    try:
        return load_file(str(path)) if path.is_file() else {}
    except (OSError, SafetensorError) as error:
        raise StorageError(f"{path} cannot be read ({error})", "fit the space again with align") from error


def load_pseudo_pairs(folder: Path) -> pa.Table:
    """The pseudo-pairs that a space stands on, as `PSEUDO_PAIRS`; none if it has no file of them.

    Raises `StorageError` when it is damaged.
    """
    import pyarrow.parquet as pq

    path = folder / PSEUDO_PAIRS_FILE
    try:
        return pq.ParquetFile(path).read().cast(PSEUDO_PAIRS) if path.is_file() else PSEUDO_PAIRS.empty_table()
    except (OSError, ValueError) as error:  # Arrow's own errors are ValueErrors
        raise StorageError(f"{path} cannot be read ({error})", "fit the space again with align") from error


def load_calibration(folder: Path) -> dict[str, Any]:
    """What the scores of a space mean, by direction; {} before they were measured, or by a newer program.

    Raises `StorageError` when it is damaged.
    """
    path = folder / CALIBRATION
    try:
        kept: dict[str, Any] = read_json(path) if path.is_file() else {"schema": 1, "directions": {}}
        return dict(kept["directions"]) if kept["schema"] == 1 else {}
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise StorageError(f"{path} cannot be read ({error})", "measure the space again with evaluate") from error


def write_json(path: Path, value: Any) -> None:
    """Write JSON whole or not at all."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    with on_disk(path.name):
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        fresh.replace(path)


def read_json(path: Path) -> Any:
    """Read JSON."""
    return json.loads(path.read_text(encoding="utf-8"))


def publish(store: Store, name: str, manifest: Mapping[str, Any]) -> None:
    """Point `name` to a manifest; readers see the old one or the new one, nothing between.

    The table version that it names is tagged, so that clean-up leaves it.
    """
    if index := manifest.get("index"):
        tag(store, index["table"], index["version"])
    row = {"name": name, "manifest": json.dumps(manifest, sort_keys=True), "published_at": datetime.now(UTC)}
    store.upsert(schemas.PUBLISHED, schemas.published(), [row])


def published(store: Store, name: str | None = None) -> tuple[str, dict[str, Any]]:
    """The manifest published under `name`, or the newest of all. Raises `StorageError` when there is none."""
    where = eq("name", name) if name is not None else None
    rows = store.read(schemas.PUBLISHED, ["name", "manifest", "published_at"], where).to_pylist()
    if not rows:
        known = ", ".join(sorted(store.strings(schemas.PUBLISHED, "name"))) or "none"
        text = f"no space is published under {name!r} (known: {known})" if name else "this workspace holds no space yet"
        raise StorageError(text, "run `modalign demo` or `modalign run SOURCE` first")
    row = max(rows, key=lambda one: (one["published_at"], one["name"]))
    return str(row["name"]), json.loads(row["manifest"])

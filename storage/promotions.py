"""Which space stands behind a name, and how it came there: an append-only history, and the way back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from storage import schemas
from storage.errors import StorageError
from storage.filters import eq
from storage.spaces import publish
from storage.tables import Store

Event = Literal["promoted", "refused", "rolled back"]
Manifest = dict[str, Any]


@dataclass(frozen=True)
class Promotion:
    """One entry of the history of a name. `before` is the manifest that was in force until then."""

    name: str
    number: int
    event: Event
    space_id: str
    reason: str
    figures: dict[str, Any]
    manifest: Manifest
    before: Manifest | None
    at: datetime


def manifest_of(store: Store, name: str) -> Manifest | None:
    """The manifest in force under `name`; None if there is none."""
    rows = store.read(schemas.PUBLISHED, ["manifest"], eq("name", name)).to_pylist()
    return json.loads(rows[0]["manifest"]) if rows else None


def history(store: Store, name: str | None = None) -> list[Promotion]:
    """All entries of a name, or of all names, oldest first."""
    columns = ("name", "number", "event", "space_id", "reason", "figures", "manifest", "before", "at")
    rows = store.read(schemas.PROMOTIONS, columns, eq("name", name) if name is not None else None).to_pylist()
    parsed = [
        Promotion(
            **row | {part: json.loads(row[part]) if row[part] else None for part in ("figures", "manifest", "before")}
        )
        for row in rows
    ]
    return sorted(parsed, key=lambda one: (one.name, one.number))


def record(
    store: Store, name: str, event: Event, space_id: str, reason: str, figures: Mapping[str, Any], manifest: Manifest
) -> None:
    """Add an entry; a space that is promoted or rolled back to is published by it.

    The entry is written first: a kill between the two leaves the old space in force, and an entry that `stack` passes
    over.
    """
    known = history(store, name)
    before = manifest_of(store, name)
    number = known[-1].number + 1 if known else 1
    row = {
        "key": f"{name}/{number:08}",
        "name": name,
        "number": number,
        "event": event,
        "space_id": space_id,
        "reason": reason,
        "figures": json.dumps(figures, sort_keys=True),
        "manifest": json.dumps(manifest, sort_keys=True),
        "before": json.dumps(before, sort_keys=True) if before is not None else None,
        "at": datetime.now(UTC),
    }
    store.upsert(schemas.PROMOTIONS, schemas.promotions(), [row])
    if event != "refused":
        publish(store, name, manifest)


def stack(store: Store, name: str) -> list[Manifest]:
    """What has been in force under `name`, oldest first, without what was rolled back; the last one is in force.

    Each manifest is the one that its space had when it was in force last.
    """
    current = manifest_of(store, name)
    if current is None:
        return []
    entries = [entry for entry in history(store, name) if entry.event != "refused"]
    after = [*(entry.before for entry in entries[1:]), current]
    past: list[Manifest] = []
    for entry, then in zip(entries, after, strict=True):
        if entry.before is None or then is None or then["space"]["space_id"] != entry.space_id:
            continue  # the first of all; or its publication was cut off by a kill, and it changed nothing
        if entry.event == "rolled back":
            while past and past.pop()["space"]["space_id"] != entry.space_id:
                pass
        elif entry.before["space"]["space_id"] != entry.space_id:
            past.append(entry.before)
    return [*past, current]


def roll_back(store: Store, name: str, reason: str) -> Manifest:
    """Put the space before the one in force back, as it stood when it was replaced. Raises `StorageError`."""
    known = stack(store, name)
    if not known:
        raise StorageError(f"no space is published under {name!r}", "see `modalign spaces`")
    if len(known) == 1:
        raise StorageError(f"there is no space before the one in force under {name!r}", "see `modalign spaces`")
    former = known[-2]
    record(store, name, "rolled back", former["space"]["space_id"], reason, {}, former)
    return former


def was_rolled_back(store: Store, name: str, space_id: str) -> bool:
    """Whether a person put this very space out of force: it does not come back by itself."""
    last = None
    for entry in history(store, name):
        if entry.event == "rolled back" and entry.before is not None and entry.before["space"]["space_id"] == space_id:
            last = True
        elif entry.event == "promoted" and entry.space_id == space_id:
            last = False
    return bool(last)

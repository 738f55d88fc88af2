"""Groups and splits of a whole collection, from its columns: keys as integers, never the rows themselves."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from storage import schemas
from storage.filters import eq
from storage.tables import Store
from tasks.refs import GroupReport, Leak
from tasks.sources.groups import HELD_OUT, components, draw_split, strictest
from tasks.sources.item import digest

_COLUMNS = ("key", "modality", "content_hash", "row_key", "declared_group", "declared_split", "group", "split", "uri")
_EXAMPLES = 20

Indices = npt.NDArray[np.int64]


def group_collection(store: Store, collection: str, *, seed: int, share: float) -> GroupReport:
    """Compute every item's group and split, write those that changed, and report.

    Items are joined by their row, by a given pair, by equal media content and by a declared group name. A group's name
    is its smallest row key, hashed. Where the data declares no test or val, `share` of the groups is held out by seed.
    """
    here = eq("collection", collection)
    items = store.read(schemas.ITEMS, _COLUMNS, here).sort_by("key")
    if items.num_rows == 0:
        return GroupReport(groups=0, splits={}, drawn=False, moved=0, digest=digest(collection))
    keys = np.asarray(items["key"].to_pylist())
    given = _given(store, collection, keys)
    labels = components(len(keys), np.concatenate([*_same(items), given]))
    declared = items["declared_split"].to_pylist()
    drawn = not {"test", "val", HELD_OUT} & set(declared)
    groups, splits = _assign(collection, items["row_key"].to_pylist(), declared, labels, seed, share, drawn=drawn)
    changed = [
        {"key": key, "group": group, "split": split}
        for key, group, split, old_group, old_split in zip(
            keys.tolist(), groups, splits, items["group"].to_pylist(), items["split"].to_pylist(), strict=True
        )
        if (group, split) != (old_group, old_split)
    ]
    if changed:
        part = pa.schema([schemas.items().field(name) for name in ("key", "group", "split")])
        store.upsert(schemas.ITEMS, schemas.items(), pa.Table.from_pylist(changed, part))
    leaks, text_leaks = _leaks(items, given)
    names, counts = np.unique(splits, return_counts=True)
    return GroupReport(
        groups=int(labels.max()) + 1,
        splits=dict(zip(names.tolist(), counts.tolist(), strict=True)),
        drawn=drawn,
        moved=sum(
            1 for said, is_ in zip(declared, splits, strict=True) if said is not None and said != is_ and not drawn
        ),
        media_leaks=len(leaks),
        text_leaks=text_leaks,
        examples=tuple(leaks[:_EXAMPLES]),
        digest=_identity(store, collection, keys.tolist(), items["content_hash"].to_pylist(), groups, splits),
    )


def _same(items: pa.Table) -> Iterator[Indices]:
    """Pairs of item numbers that share a row, a medium's content or a group name."""
    media = np.asarray(items["modality"].to_pylist()) != "text"
    for column, mask in (("row_key", None), ("content_hash", media), ("declared_group", None)):
        values = items[column].to_pylist()
        use = np.array([value is not None for value in values]) & (True if mask is None else mask)
        places = np.flatnonzero(use)
        if len(places):
            _, first, back = np.unique(
                np.asarray(values, dtype=object)[places].astype(str), return_index=True, return_inverse=True
            )
            yield np.stack([places, places[first][back]], 1)


def _given(store: Store, collection: str, keys: npt.NDArray[np.str_]) -> Indices:
    """The given pairs as item numbers (m, 2)."""
    edges = [np.empty((0, 2), np.int64)]
    for batch in store.stream(schemas.PAIRS, ["left", "right"], eq("collection", collection) & eq("source", "given")):
        ends = [_find(keys, batch.column(side).to_pylist()) for side in (0, 1)]
        there = (ends[0] >= 0) & (ends[1] >= 0)
        edges.append(np.stack(ends, 1)[there])
    return np.concatenate(edges)


def _find(keys: npt.NDArray[np.str_], wanted: list[str]) -> Indices:
    """Places of `wanted` in the sorted `keys`, -1 where absent."""
    names = np.asarray(wanted, dtype=keys.dtype)
    place = np.minimum(np.searchsorted(keys, names), len(keys) - 1)
    return np.where(keys[place] == names, place, -1).astype(np.int64)


def _assign(
    collection: str,
    row_keys: list[str],
    declared: list[str | None],
    labels: Indices,
    seed: int,
    share: float,
    *,
    drawn: bool,
) -> tuple[list[str], list[str]]:
    smallest: dict[int, str] = {}
    said: defaultdict[int, set[str]] = defaultdict(set)
    for label, row_key, split in zip(labels.tolist(), row_keys, declared, strict=True):
        if label not in smallest or row_key < smallest[label]:
            smallest[label] = row_key
        if split is not None:
            said[label].add(split)
    names = {label: digest("group", collection, row_key)[:16] for label, row_key in smallest.items()}
    if drawn:
        split_of = {label: draw_split(name, seed, share) for label, name in names.items()}
    else:
        split_of = {label: strictest(said[label]) if said[label] else "train" for label in names}
    return [names[label] for label in labels.tolist()], [split_of[label] for label in labels.tolist()]


def _leaks(items: pa.Table, given: Indices) -> tuple[list[Leak], int]:
    """Contents that stand in several declared splits: the media ones by name, the texts counted.

    A medium that several rows mention is one item with the split of one of them; its known partners tell the others.
    """
    splits: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    where: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    columns = [items[name].to_pylist() for name in ("modality", "content_hash", "declared_split", "uri")]
    for modality, content, split, uri in zip(*columns, strict=True):
        if split is not None:
            splits[modality, content].add(split)
            where[modality, content].append(uri)
    modalities, contents, declared, uris = columns
    for pair in given.tolist():
        for medium, partner in (pair, pair[::-1]):
            if modalities[medium] != "text" and declared[partner] is not None:
                splits[modalities[medium], contents[medium]].add(declared[partner])
                where[modalities[medium], contents[medium]].append(uris[medium])
    crossing = sorted(name for name, found in splits.items() if len(found) > 1)
    media = [
        Leak(
            modality=m, content_hash=c, splits=tuple(sorted(splits[m, c])), examples=tuple(sorted(set(where[m, c]))[:4])
        )
        for m, c in crossing
        if m != "text"
    ]
    return media, sum(1 for modality, _ in crossing if modality == "text")


def _identity(
    store: Store, collection: str, keys: list[str], contents: list[str], groups: list[str], splits: list[str]
) -> str:
    state = hashlib.blake2b(digest_size=16)
    for row in zip(keys, contents, groups, splits, strict=True):
        state.update("\0".join(row).encode())
    state.update(
        "".join(
            sorted(store.strings(schemas.PAIRS, "key", eq("collection", collection) & eq("source", "given")))
        ).encode()
    )
    return state.hexdigest()

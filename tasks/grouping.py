"""Groups and splits of a whole collection: some 20 bytes an item in memory, the rest on disk, part by part."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from heapq import nsmallest

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from storage import schemas
from storage.filters import eq
from storage.packed import packed, words
from storage.scratch import Parted
from storage.tables import Mask
from storage.workspace import Workspace
from tasks.contents import TEXT
from tasks.joined import JoinedItems, Places, hashed
from tasks.refs import GroupReport, Leak
from tasks.sources.groups import HELD_OUT, draw_split, strictest_first
from tasks.sources.item import digest

_EXAMPLES = 20
_PLACES = 4  # of a leak that are shown
_NAMING = pa.schema({"group": pa.int64(), "row_key": pa.string()})
_SAID = pa.schema({"content": pa.string(), "modality": pa.int32(), "split": pa.int32()})

Names = npt.NDArray[np.uint64]
"""(count,) by the smallest number of a group's items: its name, 16 hex digits."""


def group_collection(workspace: Workspace, collection: str, *, seed: int, share: float) -> GroupReport:
    """Compute every item's group and split, write those that changed, and report.

    Items are joined by their row, by a given pair, by equal media content and by a declared group name. A group's name
    is its smallest row key, hashed. Where the data declares no test or val, `share` of the groups is held out by seed.
    """
    with JoinedItems(workspace, collection) as items:
        if not items.count:
            return GroupReport(groups=0, splits={}, drawn=False, moved=0, digest=digest(collection))
        names = _named(items, collection)
        drawn = not {"test", "val", HELD_OUT} & set(items.splits)
        splits = strictest_first([HELD_OUT, "train"] if drawn else [*items.splits, "train"])
        codes = _draw(items, names, seed, share) if drawn else _strictest(items, splits)
        _write_changed(items, names, splits, codes)
        counts, moved, identity = _tally(items, names, splits, codes)
        leaks, text_leaks, examples = _leaks(items)
        return GroupReport(
            groups=sum(len(some) for some in items.groups()),
            splits={name: count for name, count in sorted(zip(splits, counts, strict=True)) if count},
            drawn=drawn,
            moved=0 if drawn else moved,
            media_leaks=leaks,
            text_leaks=text_leaks,
            examples=examples,
            digest=identity,
        )


def _named(items: JoinedItems, collection: str) -> Names:
    """The names of groups. Of most the only row is known by its hash; of others the smallest row key is found."""
    names, several = np.zeros(items.count, np.uint64), np.zeros(items.count, np.bool_)
    for batch in items.by_row():
        names[items.roots(batch["number"].to_numpy())] = _name(batch["row"])
    for batch in items.by_row():
        group = items.roots(batch["number"].to_numpy())
        several[group[names[group] != _name(batch["row"])]] = True
    if several.any():
        aside = items.aside(_NAMING)
        for numbers, batch in items.scan("row_key"):
            group = items.roots(numbers).astype(np.int64)
            some = several[group]
            keys = batch.column(0).filter(pa.array(some))
            aside.add(group[some] * items.parts // items.count, {"group": group[some], "row_key": keys})
        for batch in aside:
            least = pa.Table.from_batches([batch]).group_by("group").aggregate([("row_key", "min")]).combine_chunks()
            named = hashed(least["row_key_min"].combine_chunks(), "group", collection)
            names[least["group"].to_numpy()] = _name(named)
    return names


def _name(rows: pa.StringArray) -> Names:
    """The half of a row's hash that names its group."""
    return words(packed(rows))[::2]


def _draw(items: JoinedItems, names: Names, seed: int, share: float) -> Places:
    """Of each group the place of its split in (held out, train), drawn by its name."""
    codes = np.ones(items.count, np.uint8)
    for groups in items.groups():
        codes[groups] = [draw_split(f"{name:016x}", seed, share) != HELD_OUT for name in names[groups].tolist()]
    return codes


def _strictest(items: JoinedItems, splits: Sequence[str]) -> Places:
    """Of each group the place of its split in `splits`, the strictest first; the last, train, where it has none."""
    codes = np.full(items.count, len(splits) - 1, np.min_scalar_type(len(splits)))
    rank = np.array([*map(splits.index, items.splits), len(splits) - 1], codes.dtype)
    for batch in items.by_row():
        np.minimum.at(codes, items.roots(batch["number"].to_numpy()), rank[batch["split"].to_numpy()])
    return codes


def _write_changed(items: JoinedItems, names: Names, splits: Sequence[str], codes: Places) -> None:
    done = 0

    def anew(rows: pa.Table) -> tuple[Mask, pa.Table]:
        nonlocal done
        group = items.roots(np.arange(done, done + len(rows)))
        done += len(rows)
        named = pa.array(np.frombuffer(names[group].astype(">u8").tobytes().hex().encode(), "S16"), pa.string())
        wanted = pa.table({"group": named, "split": pa.array(splits).take(pa.array(codes[group]))})
        same = pc.and_(*(pc.equal(rows[column], wanted[column]) for column in wanted.column_names))
        changed = pc.invert(same).to_numpy()
        return changed, wanted.filter(pa.array(changed))

    items.store.revise(schemas.ITEMS, ("group", "split"), items.here, anew)


def _tally(items: JoinedItems, names: Names, splits: Sequence[str], codes: Places) -> tuple[list[int], int, str]:
    """Items in each split, items that were declared in another one, and what tells all of it and the given pairs."""
    counts, moved = np.zeros(len(splits), np.int64), 0
    rank = np.array([*(splits.index(one) if one in splits else -1 for one in items.splits), -1])  # not all, when drawn
    state = hashlib.blake2b("\0".join(splits).encode(), digest_size=16)
    for known, _, _ in items.by_key():
        group = items.roots(known["number"].to_numpy())
        said, split = known["split"].to_numpy(), codes[group]
        counts += np.bincount(split, minlength=len(splits))
        moved += int(((said >= 0) & (rank[said] != split)).sum())
        for column in (packed(known["key"]), packed(known["content"]), names[group], split):
            state.update(column.tobytes())
    state.update(items.pairs_sum.tobytes())
    return counts.tolist(), moved, state.hexdigest()


def _leaks(items: JoinedItems) -> tuple[int, int, tuple[Leak, ...]]:
    """Contents that stand in several declared splits: media and texts counted, and the first of the media.

    A medium that several rows mention is one item with the split of one of them; its known partners tell the others.
    """
    if len(items.splits) < 2:
        return 0, 0, ()
    modalities, splits = list(items.modalities), list(items.splits)
    counts, first = Counter[bool](), list[tuple[str, str, tuple[str, ...]]]()
    for batch in _said(items):
        said = pa.Table.from_batches([batch]).group_by(["modality", "content"]).aggregate([("split", "distinct")])
        for one in said.filter(pc.greater(pc.list_value_length(said["split_distinct"]), 1)).to_pylist():
            modality, told = modalities[one["modality"]], sorted(splits[code] for code in one["split_distinct"])
            counts[modality == TEXT] += 1
            if modality != TEXT:
                first = nsmallest(_EXAMPLES, [*first, (modality, one["content"], tuple(told))])
    examples = (
        Leak(modality=modality, content_hash=content, splits=told, examples=_where(items, modality, content))
        for modality, content, told in first
    )
    return counts[False], counts[True], tuple(examples)


def _said(items: JoinedItems) -> Parted:
    """Contents with the declared splits that are said of them, by themselves or, of a medium, by a known partner."""
    told = np.full(2 * items.pairs, -1, np.min_scalar_type(-len(items.splits)))  # of each end of a pair
    for known, ends, at in items.by_key():
        told[ends] = known["split"].to_numpy()[at]
    said = items.aside(_SAID)
    for known, ends, at in items.by_key():
        split, other = known["split"].to_numpy(), told[ends ^ 1]
        own = np.flatnonzero(split >= 0)
        partner = (other >= 0) & (known["modality"].to_numpy()[at] != items.modalities[TEXT])
        rows = known.take(pa.array(np.concatenate([own, at[partner]])))
        columns = {name: rows[name] for name in ("content", "modality")}
        said.add(items.part_of(rows["content"]), columns | {"split": np.concatenate([split[own], other[partner]])})
    return said


def _where(items: JoinedItems, modality: str, content: str) -> tuple[str, ...]:
    """The first places where a content stands."""
    here = items.here & eq("modality", modality) & eq("content_hash", content)
    return tuple(sorted(set(items.store.strings(schemas.ITEMS, "uri", here)))[:_PLACES])

"""Groups and splits of a whole collection, from its columns: keys as bytes, names as integers, never the rows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from storage import schemas
from storage.filters import Filter, eq, isin
from storage.packed import Keys, column_of, packed, place, unpacked
from storage.tables import Store
from tasks.refs import GroupReport, Leak
from tasks.sources.groups import HELD_OUT, components, draw_split, strictest
from tasks.sources.item import digest

_NAMED = ("modality", "declared_group", "declared_split", "split")  # few different ones, or none
_EXAMPLES = 20
_PLACES = 4  # of a leak that are shown
_BLOCK = 100_000  # rows in one write, or in one step of the digest

Indices = npt.NDArray[np.int64]
Codes = npt.NDArray[np.int32]


@dataclass(frozen=True)
class _Names:
    """A column as numbers: `codes[i]` is the place of row i's name in `names`, -1 for none."""

    names: list[str]
    codes: Codes


@dataclass(frozen=True)
class _Items:
    """All items of a collection by key, some 100 bytes each; `stored` is where each stands in its table."""

    stored: Indices
    keys: Keys
    contents: Keys
    groups: Keys
    row_keys: pa.StringArray
    row_codes: Codes
    modality: _Names
    declared_group: _Names
    declared_split: _Names
    split: _Names

    @property
    def media(self) -> npt.NDArray[np.bool_]:
        """Which are no texts."""
        return np.array([name != "text" for name in self.modality.names], np.bool_)[self.modality.codes]


def group_collection(store: Store, collection: str, *, seed: int, share: float) -> GroupReport:
    """Compute every item's group and split, write those that changed, and report.

    Items are joined by their row, by a given pair, by equal media content and by a declared group name. A group's name
    is its smallest row key, hashed. Where the data declares no test or val, `share` of the groups is held out by seed.
    """
    items = _read(store, eq("collection", collection))
    if not len(items.keys):
        return GroupReport(groups=0, splits={}, drawn=False, moved=0, digest=digest(collection))
    given = _given(store, collection, items.keys)
    labels = components(len(items.keys), np.concatenate([*_same(items), given]))
    drawn = not {"test", "val", HELD_OUT} & set(items.declared_split.names)
    names, of_group = _assign(collection, items, labels, seed, share, drawn=drawn)
    splits = _Names(of_group.names, of_group.codes[labels])
    _write_changed(store, items, names, labels, splits)
    leaks, text_leaks = _leaks(items, given)
    counts = np.bincount(splits.codes, minlength=len(splits.names))
    said = _recoded(items.declared_split, splits.names)
    return GroupReport(
        groups=len(names),
        splits={name: int(count) for name, count in sorted(zip(splits.names, counts, strict=True)) if count},
        drawn=drawn,
        moved=0 if drawn else int(((items.declared_split.codes >= 0) & (said != splits.codes)).sum()),
        media_leaks=len(leaks),
        text_leaks=text_leaks,
        examples=tuple(_examples(store, items, leaks[:_EXAMPLES])),
        digest=_identity(store, collection, items, names[labels], splits),
    )


def _read(store: Store, where: Filter) -> _Items:
    columns = ("key", "content_hash", "group", "row_key", *_NAMED)
    hashed = [np.empty(store.count(schemas.ITEMS, where), "S32") for _ in range(3)]
    named: list[list[pa.DictionaryArray]] = [[] for _ in columns[3:]]
    done = 0
    for batch in store.stream(schemas.ITEMS, columns, where):
        for whole, column in zip(hashed, batch.columns[:3], strict=True):
            whole[done : done + len(batch)] = packed(column)
        for coded, column in zip(named, batch.columns[3:], strict=True):
            coded.append(column.dictionary_encode())
        done += len(batch)
    by_key = np.argsort(hashed[0], kind="stable")
    keys, contents, groups = (whole[by_key] for whole in hashed)
    rows, *few = (_names(coded, by_key) for coded in named)
    return _Items(by_key, keys, contents, groups, *rows, *(_Names(names.to_pylist(), codes) for names, codes in few))


def _names(parts: Sequence[pa.DictionaryArray], order: Indices) -> tuple[pa.StringArray, Codes]:
    """The different names of a column, and of each row, in a new order, the place of its own; -1 for none."""
    kind = pa.dictionary(pa.int32(), pa.string())
    whole = pa.chunked_array(parts, kind).unify_dictionaries().combine_chunks()
    whole = whole.chunk(0) if isinstance(whole, pa.ChunkedArray) else whole
    codes = whole.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32)
    return whole.dictionary, codes[order]


def _same(items: _Items) -> Iterator[Indices]:
    """Pairs of item numbers that share a row, a medium's content or a group name."""
    media, told = np.flatnonzero(items.media), np.flatnonzero(items.declared_group.codes >= 0)
    for values, places in (
        (items.row_codes, np.arange(len(items.keys))),
        (items.contents[media], media),
        (items.declared_group.codes[told], told),
    ):
        _, first, back = np.unique(values, return_index=True, return_inverse=True)
        yield np.stack([places, places[first][back]], 1)


def _given(store: Store, collection: str, keys: Keys) -> Indices:
    """The given pairs as item numbers (m, 2)."""
    edges = [np.empty((0, 2), np.int64)]
    for batch in store.stream(schemas.PAIRS, ["left", "right"], eq("collection", collection) & eq("source", "given")):
        ends = np.stack([place(keys, packed(batch.column(side))) for side in (0, 1)], 1)
        edges.append(ends[(ends >= 0).all(1)])
    return np.concatenate(edges)


def _assign(
    collection: str, items: _Items, labels: Indices, seed: int, share: float, *, drawn: bool
) -> tuple[Keys, _Names]:
    """The name of each group, and its split."""
    count = int(labels.max()) + 1
    by_name = pc.array_sort_indices(items.row_keys).to_numpy().astype(np.int64)
    rank = np.empty(len(by_name), np.int64)
    rank[by_name] = np.arange(len(by_name))
    smallest = np.full(count, len(rank), np.int64)
    np.minimum.at(smallest, labels, rank[items.row_codes])
    first = (items.row_keys[row].as_py() for row in by_name[smallest].tolist())
    names = np.fromiter((digest("group", collection, row_key)[:16].encode() for row_key in first), "S16", count)
    if drawn:
        return names, _coded(draw_split(name.decode(), seed, share) for name in names)
    declared = items.declared_split
    told = declared.codes >= 0
    said: dict[int, set[str]] = {}
    for label, code in np.unique(np.stack([labels[told], declared.codes[told]], 1), axis=0).tolist():
        said.setdefault(label, set()).add(declared.names[code])
    return names, _coded(strictest(said[label]) if label in said else "train" for label in range(count))


def _coded(values: Iterable[str]) -> _Names:
    codes: dict[str, int] = {}
    found = np.fromiter((codes.setdefault(value, len(codes)) for value in values), np.int32)
    return _Names(list(codes), found)


def _recoded(column: _Names, names: Sequence[str]) -> Codes:
    """The column's codes as places in other `names`; -2 where it is none of them."""
    of = {name: code for code, name in enumerate(names)}
    return np.array([*(of.get(name, -2) for name in column.names), -2], np.int32)[column.codes]


def _write_changed(store: Store, items: _Items, names: Keys, labels: Indices, splits: _Names) -> None:
    changed = np.flatnonzero((names[labels] != items.groups) | (_recoded(items.split, splits.names) != splits.codes))
    # in the order of the table: a write then touches the few files that hold its rows, not all of them
    changed = changed[np.argsort(items.stored[changed])]
    part = pa.schema([schemas.items().field(name) for name in ("key", "group", "split")])
    for start in range(0, len(changed), _BLOCK):
        rows = changed[start : start + _BLOCK]
        said = [splits.names[code] for code in splits.codes[rows].tolist()]
        columns = [unpacked(items.keys[rows]), unpacked(names[labels[rows]]), said]
        store.upsert(schemas.ITEMS, schemas.items(), pa.table(columns, schema=part))


def _leaks(items: _Items, given: Indices) -> tuple[list[tuple[str, str, list[str], Indices]], int]:
    """Contents that stand in several declared splits: the media ones by name, the texts counted.

    A medium that several rows mention is one item with the split of one of them; its known partners tell the others.
    Of a medium: modality, content, splits, and the items that tell.
    """
    declared = items.declared_split
    if len(set(declared.names)) < 2:
        return [], 0
    both = np.concatenate([given, given[:, ::-1]])
    both = both[items.media[both[:, 0]] & (declared.codes[both[:, 1]] >= 0)]
    own = np.flatnonzero(declared.codes >= 0)
    told = np.concatenate([own, both[:, 0]])  # items, and …
    split = np.concatenate([declared.codes[own], declared.codes[both[:, 1]]])  # … a split that is said of each
    _, content = np.unique(items.contents[told], return_inverse=True)
    what = content.astype(np.int64) * len(items.modality.names) + items.modality.codes[told]
    pairs = np.unique(np.stack([what, split], 1), axis=0)
    crossing, times = np.unique(pairs[:, 0], return_counts=True)
    crossing = crossing[times > 1]
    media = crossing[np.array([name != "text" for name in items.modality.names])[crossing % len(items.modality.names)]]
    order = np.argsort(what, kind="stable")
    ends = [np.searchsorted(what[order], media, side=side) for side in ("left", "right")]
    leaks = []
    for start, stop in zip(*ends, strict=True):
        places = told[order[start:stop]]
        modality = items.modality.names[items.modality.codes[places[0]]]
        splits = sorted({declared.names[code] for code in split[order[start:stop]].tolist()})
        leaks.append((modality, items.contents[places[0]].decode(), splits, np.unique(places)))
    return sorted(leaks, key=lambda one: one[:2]), len(crossing) - len(media)


def _examples(store: Store, items: _Items, leaks: Sequence[tuple[str, str, list[str], Indices]]) -> Iterator[Leak]:
    for modality, content, splits, places in leaks:
        keys = unpacked(items.keys[places])
        found = sorted({uri for part in _parts(keys) for uri in store.strings(schemas.ITEMS, "uri", isin("key", part))})
        yield Leak(modality=modality, content_hash=content, splits=tuple(splits), examples=tuple(found[:_PLACES]))


def _parts(keys: list[str], most: int = 2_000) -> Iterator[list[str]]:
    for start in range(0, len(keys), most):
        yield keys[start : start + most]


def _identity(store: Store, collection: str, items: _Items, groups: Keys, splits: _Names) -> str:
    state = hashlib.blake2b(digest_size=16)
    names = [name.encode() for name in splits.names]
    for start in range(0, len(items.keys), _BLOCK):
        part = slice(start, start + _BLOCK)
        columns = [one[part].tolist() for one in (items.keys, items.contents, groups)]
        said = [names[code] for code in splits.codes[part].tolist()]
        state.update(b"".join(b"\0".join(row) for row in zip(*columns, said, strict=True)))
    given = eq("collection", collection) & eq("source", "given")
    for keys in np.array_split(np.sort(column_of(store, schemas.PAIRS, "key", given)), 16):
        state.update(b"".join(keys.tolist()))
    return state.hexdigest()

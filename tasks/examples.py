"""Examples of what a space finds: a few held-out texts, and the pictures nearest to each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from storage import schemas
from storage.filters import eq, isin
from storage.neighbours import nearest
from storage.tables import Store, matrix
from tasks.media.image import Pixels, decode
from tasks.media.registry import Limits, MediaError
from tasks.refs import Aligned
from tasks.sources.paths import on_disk, read_media

_FETCH = 50  # candidates before the hubness correction re-ranks them, as a search does


@dataclass(frozen=True)
class Found:
    """A picture found: where it lies, and whether it is known to belong to the text."""

    collection: str
    uri: str
    known: bool


@dataclass(frozen=True)
class Example:
    """A held-out text and the pictures nearest to it, best first."""

    text: str
    found: tuple[Found, ...]


def held_out_examples(store: Store, aligned: Aligned, split: str, texts: int = 3, pictures: int = 5) -> list[Example]:
    """The same few texts of a split as long as they are there, each with a known picture; no two alike or of one group.

    Nothing is encoded: a text's own vector is the query. [] where the space joins no texts and pictures.
    """
    space = aligned.space
    if not {"text", "image"} <= set(space.modalities) or not store.exists(space.table):
        return []
    queries = _queries(store, aligned, split, texts)
    known = _known(store, queries["key"].to_pylist())
    columns = ["key", "collection", "uri", "vector", "hubness_text"]
    if not queries.num_rows:
        return []
    vectors = matrix(queries["vector"].combine_chunks())
    data = store.dataset(space.table)
    out = []
    for row, vector in zip(queries.select(["key", "text"]).to_pylist(), vectors, strict=True):
        (hits,) = nearest(
            data, vector[None], _FETCH, aligned.index.index, where=eq("modality", "image"), columns=columns
        )
        scores = 2 * matrix(hits["vector"].combine_chunks()) @ vector - hits["hubness_text"].to_numpy()
        best = hits.select(["key", "collection", "uri"]).take(pa.array((-scores).argsort(kind="stable")[:pictures]))
        found = [Found(one["collection"], one["uri"], one["key"] in known[row["key"]]) for one in best.to_pylist()]
        out.append(Example(row["text"], tuple(found)))
    return out


def _queries(store: Store, aligned: Aligned, split: str, count: int) -> pa.Table:
    """Held-out texts with a known picture: keys are digests, so the least ones are as good as drawn."""
    of = isin("collection", aligned.collections) & eq("modality", "text") & eq("split", split)
    keys = sorted(store.strings(aligned.space.table, "key", of))[: 20 * count]
    paired = {key for key, pictures in _known(store, keys).items() if pictures}
    rows = store.read(aligned.space.table, ["key", "group", "text", "vector"], isin("key", keys)).sort_by("key")
    chosen: list[int] = []
    seen: set[str] = set()
    for place, row in enumerate(rows.select(["key", "group", "text"]).to_pylist()):
        if row["key"] in paired and not seen & {row["group"], row["text"]} and len(chosen) < count:
            chosen.append(place)
            seen |= {row["group"], row["text"]}
    return rows.take(pa.array(chosen, pa.int64()))


def _known(store: Store, keys: Sequence[str]) -> defaultdict[str, set[str]]:
    """The pictures that are known to belong to each text."""
    out: defaultdict[str, set[str]] = defaultdict(set)
    where = eq("source", "given") & eq("left_modality", "image") & eq("right_modality", "text") & isin("right", keys)
    if keys:
        for pair in store.read(schemas.PAIRS, ["left", "right"], where).to_pylist():
            out[pair["right"]].add(pair["left"])
    return out


def picture_of(roots: Mapping[str, str], found: Found, limits: Limits) -> Pixels | None:
    """The picture, read inside its collection's own root; None if it cannot be read or shown."""
    if found.collection not in roots:
        return None
    root = Path(roots[found.collection])
    try:
        return decode(read_media(root, on_disk(root, found.uri), limits.max_bytes), limits)
    except (MediaError, OSError):
        return None


def roots_of(store: Store) -> dict[str, str]:
    """The root folder of each collection."""
    return {row["name"]: row["root"] for row in store.read(schemas.COLLECTIONS, ["name", "root"]).to_pylist()}

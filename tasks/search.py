"""The query core: a text, a file, an item, a vector, or a text beside a medium → the nearest items of a modality.

No Prefect; encoders load when needed. A page is cut from one ranking: the `CANDIDATES` items nearest by cosine, and as
many by their words, re-ranked. It is the same whatever page is asked for, so one page goes on where the last one ended.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from config.errors import UserError
from storage import schemas
from storage.ann import Index
from storage.errors import StorageError
from storage.filters import isin
from storage.spaces import load_calibration, load_space, published
from storage.tables import named
from storage.workspace import Workspace
from tasks.alignment.space import JointSpace
from tasks.asked import Asked, Embedder, Mode, Query
from tasks.conditions import Where
from tasks.folding import representatives
from tasks.galleries import Galleries
from tasks.hits import Answer, Evidence, Hit, Item, Known
from tasks.locate import Locator, Moment
from tasks.media.registry import MediaError
from tasks.metrics.calibration import Calibration
from tasks.ranking import CANDIDATES, Ranked, Ranker, Sought
from tasks.sources.paths import locate, on_disk
from tasks.why import evidence, partners

__all__ = ["Answer", "Evidence", "Hit", "Item", "Known", "Mode", "Query", "Searcher"]

Array = npt.NDArray[np.float32]

_TOGETHER = 64  # queries of a batch that are searched with at once
_KEYS = 2_000  # in one IN (…) list


class Searcher:
    """A published space, opened at one consistent version. Several threads may search at once."""

    def __init__(self, workspace: Workspace, name: str | None = None, *, device: str = "auto") -> None:
        try:
            self.name, manifest = published(workspace.store, name)
        except StorageError as error:
            raise UserError(error.message, error.mend) from None
        self._store = workspace.store
        self._manifest = manifest
        self._table, self._version = manifest["index"]["table"], manifest["index"]["version"]
        folder = Path(manifest["space"]["path"])
        arrays, config = load_space(folder)
        calibrations = {name: Calibration.from_json(one) for name, one in load_calibration(folder).items()}
        self._space = JointSpace.load(arrays, config)
        spoken = [one["languages"] for one in config["encoders"].get("text", [])]
        self._embedder = Embedder(workspace, self._space, spoken, device)
        index = Index.model_validate(manifest["index"]["index"])
        self._galleries = Galleries(self._store, self._table, self._version, index, self.modalities)
        self._locator = Locator(self._store, self._table, self._version)
        self._ranker = Ranker(self._galleries, self._locator, self._space, calibrations)

    @property
    def space_id(self) -> str:
        """Which space it is, of those that its name has stood for."""
        return str(self._manifest["space"]["space_id"])

    @property
    def space(self) -> JointSpace:
        """The fitted heads, and the frozen queries behind the hubness terms."""
        return self._space

    @property
    def modalities(self) -> tuple[str, ...]:
        """What can be searched with and for."""
        return tuple(self._space.heads)

    @cached_property
    def _roots(self) -> dict[str, str]:
        rows = self._store.read(schemas.COLLECTIONS, ["name", "root"]).to_pylist()
        return {row["name"]: row["root"] for row in rows}

    def search(
        self,
        query: Query,
        *,
        target: str | None = None,
        k: int = 10,
        offset: int = 0,
        mode: Mode = "auto",
        where: Where | None = None,
        fold: bool = False,
        hubness: bool = True,
    ) -> Answer:
        """The hits at places `offset` to `offset + k` among the items of modality `target` that satisfy `where`.

        Without a target it is the first modality that is not the query's own; for a text beside a medium the medium's.
        `auto` is by vector for a medium; for words it is hybrid, or full text alone where no text encoder reads their
        script. Beside a medium, words have their weight in full text too. `fold` lists near-duplicates under the first
        of them; without `hubness` the plain cosine ranks. Raises `UserError` for what cannot be asked.
        """
        (answer,) = self.search_many(
            [query], target=target, k=k, offset=offset, mode=mode, where=where, fold=fold, hubness=hubness
        )
        return answer

    def search_many(
        self,
        queries: Sequence[Query],
        *,
        target: str | None = None,
        k: int = 10,
        offset: int = 0,
        mode: Mode = "auto",
        where: Where | None = None,
        fold: bool = False,
        hubness: bool = True,
    ) -> list[Answer]:
        """As `search`, of each query; encoders and the search by vector are called once for many."""
        if k < 1 or offset < 0 or offset + k > CANDIDATES:
            raise UserError(
                f"k is {k}" + (f" from {offset} on" if offset else ""), f"ask for 1 to {CANDIDATES} hits in all"
            )
        page = slice(offset, offset + k)
        out: list[Answer] = []
        for start in range(0, len(queries), _TOGETHER):
            asked = [self._embedder.ask(query, mode, self._look_up) for query in queries[start : start + _TOGETHER]]
            targets = [self._target(target, one) for one in asked]
            sought = {
                name: Sought(name, self._galleries.narrowed(name, where), bounded=bool(where), hubness=hubness)
                for name in dict.fromkeys(targets)
            }
            out += self._answers(asked, [sought[name] for name in targets], page, fold=fold)
        return out

    def _answers(self, asked: Sequence[Asked], sought: Sequence[Sought], page: slice, *, fold: bool) -> list[Answer]:
        vectors = self._embedder.embed(asked)
        ranked: dict[int, Ranked] = {}
        for target in dict.fromkeys(sought):
            places = [place for place, one in enumerate(sought) if one == target]
            found = self._ranker.rank([asked[place] for place in places], [vectors[place] for place in places], target)
            ranked |= zip(places, found, strict=True)
        pages = [self._page(ranked[place], one, page, fold=fold) for place, one in enumerate(sought)]
        items = self._items([one for keys, _ in pages for key, others in keys.items() for one in (key, *others)])
        return [
            Answer(
                space=self.name,
                space_id=self.space_id,
                query=one.told,
                target=sought[place].target,
                mode=ranked[place].mode,
                offset=page.start,
                more=pages[place][1],
                hits=self._hits(one, vectors[place], ranked[place], sought[place], pages[place][0], items),
                notes=(*one.notes, *_ambiguous(ranked[place])),
                alike=ranked[place].alike,
            )
            for place, one in enumerate(asked)
        ]

    def embed(self, query: Query) -> tuple[Array, str]:
        """The joint vector (dim,) of a query, and its modality: the medium's; "" for a vector of unknown modality."""
        asked = self._embedder.ask(query, "vector", self._look_up)
        (vector,) = self._embedder.embed([asked])
        assert vector is not None
        return vector, asked.modality

    def why(self, query: Query, key: str, *, k: int = 3) -> list[Evidence]:
        """The known pairs of the training set that speak most for an item as the answer to a query, best first."""
        vector, modality = self.embed(query)
        target, hit = self._look_up(key)
        if not modality:
            raise UserError("the vector's modality is not known", f"say one of {', '.join(self.modalities)}")
        found = evidence(self._store, self._galleries, (vector, modality), (hit, target), k)
        items = self._items([one for pair in found for one in pair.keys])
        return [
            Evidence(items[pair.keys[0]][0], items[pair.keys[1]][0], pair.score, *pair.similarities) for pair in found
        ]

    def item(self, key: str) -> Known:
        """What is known of an item. Raises `UserError` when the space holds none of this key."""
        found = self._items([key])
        if key not in found:
            raise self._no_item(key)
        split = self._read([key], ["split"])[0]["split"]
        others = self._items(sorted(partners(self._store, [key])[key]))
        item = found[key][0]
        return Known(**_fields(item), split=split, pairs=tuple(one for one, _ in others.values()))

    def media_path(self, key: str) -> Path:
        """The file of an item, inside its collection's folder; raises `UserError` where there is none such."""
        found = self._items([key])
        if key not in found:
            raise self._no_item(key)
        item = found[key][0]
        root = Path(self._roots.get(item.collection, ""))
        if not item.uri or not self._roots.get(item.collection):
            raise UserError(f"item {key} is no file ({item.modality})", "ask for a medium")
        try:
            return locate(root, on_disk(root, item.uri))
        except MediaError as error:
            raise UserError(f"{item.uri} of {item.collection}: {error.message}", "look for the file") from None

    def _page(self, ranked: Ranked, sought: Sought, page: slice, *, fold: bool) -> tuple[dict[str, list[str]], bool]:
        """The keys of the hits on a page, each with those folded under it, and whether others follow."""
        under: dict[str, list[str]] = {key: [] for key in ranked.scores}
        if fold:
            under = self._folded(list(ranked.scores), sought.target)
        keys = list(under)
        return {key: under[key] for key in keys[page]}, len(keys) > page.stop

    def _hits(
        self,
        asked: Asked,
        vector: Array | None,
        ranked: Ranked,
        sought: Sought,
        page: Mapping[str, Sequence[str]],
        items: Mapping[str, tuple[Item, str]],
    ) -> list[Hit]:
        keys = [key for key in page if key in items]
        moments: dict[str, Moment] = {}
        if vector is not None and ranked.lasting:
            contents = [items[key][1] for key in keys]
            moments = self._locator.moments(vector, asked.modality if sought.hubness else "", sought.target, contents)
        return [
            Hit(
                **_fields(items[key][0]),
                score=ranked.scores[key],
                similarity=ranked.cosines.get(key),
                found_by=tuple(name for name, found in ranked.ways.items() if key in found),
                start=moments[items[key][1]].start if items[key][1] in moments else None,
                folded=tuple(items[one][0] for one in page[key] if one in items),
                **ranked.meant.get(key, {}),
            )
            for key in keys
        ]

    def _folded(self, keys: Sequence[str], modality: str) -> dict[str, list[str]]:
        """The first of each set of near-duplicates, in order, and the others behind it."""
        rows = {row["key"]: row for row in self._read(keys, ["key", "collection", "content_hash"])}
        there = [key for key in keys if key in rows]
        table = next((one["table"] for one in self._manifest["encoded"] if one["modality"] == modality), None)
        first = representatives(self._store, table, [rows[key] for key in there])
        out: dict[str, list[str]] = {}
        for key, place in zip(there, first, strict=True):
            if there[place] == key:
                out[key] = []
            else:
                out[there[place]].append(key)
        return out

    def _look_up(self, key: str) -> tuple[str, Array]:
        """Modality and joint vector of an item."""
        rows = self._read([key], ["modality", "vector"])
        if not rows:
            raise self._no_item(key)
        return str(rows[0]["modality"]), np.asarray(rows[0]["vector"], np.float32)

    def _no_item(self, key: str) -> UserError:
        return UserError(f"space {self.name} holds no item {key!r}", "take a key from the hits of a search")

    def _items(self, keys: Sequence[str]) -> dict[str, tuple[Item, str]]:
        """Items and their content hashes by key, in the order of `keys`; those that are not there are left out."""
        names = ("key", "modality", "collection", "uri", "text", "attributes", "content_hash")
        rows = {}
        for row in self._read(keys, names):
            content = row.pop("content_hash")
            path = str(Path(self._roots.get(row["collection"], "")) / row["uri"]) if row["uri"] else ""
            rows[row["key"]] = Item(**row | {"attributes": json.loads(row["attributes"])}, path=path), content
        return {key: rows[key] for key in keys if key in rows}

    def _read(self, keys: Sequence[str], columns: Sequence[str]) -> list[dict[str, Any]]:
        """Rows of the table by key, in any order."""
        rows: list[dict[str, Any]] = []
        for part in _chunks(list(dict.fromkeys(keys))):
            with named(self._table):
                search = self._galleries.table.search().where(isin("key", part).sql).select(list(columns))
                rows += search.limit(len(part)).to_arrow().to_pylist()
        return rows

    def _target(self, wanted: str | None, asked: Asked) -> str:
        """The modality to search."""
        if wanted is None:
            if len(asked.parts) > 1:
                return asked.modality or self.modalities[0]
            return next(name for name in self.modalities if name != asked.modality)
        if wanted not in self.modalities:
            raise UserError(f"space {self.name} holds no {wanted!r}", f"search for one of {', '.join(self.modalities)}")
        return wanted


def _ambiguous(ranked: Ranked) -> tuple[str, ...]:
    """What to say of a query whose first answers score alike."""
    by = " by meaning" if ranked.mode == "hybrid" else ""
    return (f"ambiguous: the first {ranked.alike} answers{by} score alike",) if ranked.alike else ()


def _fields(item: Item) -> dict[str, Any]:
    """The fields of an item itself, by name."""
    return {one.name: getattr(item, one.name) for one in fields(Item)}


def _chunks(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(keys), _KEYS):
        yield keys[start : start + _KEYS]
